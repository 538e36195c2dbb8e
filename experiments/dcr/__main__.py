"""The DCR experiment from the command line; `--help` lists the commands."""

import sys

from experiments.common import command_line
from experiments.common.command_line import Experiment
from experiments.dcr.arms import ARMS, EXAMPLES, rewards, tokenizer
from experiments.dcr.claims import CLAIMS
from experiments.dcr.metrics import METRICS, measure, score
from experiments.dcr.presets import PRESETS
from experiments.dcr.records import open_records

EXPERIMENT = Experiment(
    name="dcr",
    title="DCR",
    presets=PRESETS,
    arms=ARMS,
    open_data=open_records,
    tokenizer=tokenizer,
    examples=EXAMPLES,
    rewards=rewards,
    score=score,
    measure=measure,
    metrics=METRICS,
    claims=CLAIMS,
)


def main(arguments: list[str] | None = None, experiment: Experiment = EXPERIMENT) -> int:
    """Runs one command; returns the exit status."""
    return command_line.main(experiment, {}, arguments, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
