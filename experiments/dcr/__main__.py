"""The DCR experiment from the command line; `--help` lists the commands."""

import sys

from experiments.common import command_line
from experiments.common.command_line import Experiment, training
from experiments.dcr.arms import ARMS, EXAMPLES, REFINED, rewards, tokenizer
from experiments.dcr.claims import CLAIMS
from experiments.dcr.commands.agreement import agreement
from experiments.dcr.commands.data import data
from experiments.dcr.commands.diagnostics import kernel_command, probe, separation_command
from experiments.dcr.commands.evaluate import evaluating
from experiments.dcr.commands.sweep import sweeping
from experiments.dcr.metrics import METRICS, measure, score
from experiments.dcr.page import SECTIONS
from experiments.dcr.presets import PRESETS
from experiments.dcr.records import open_records
from experiments.dcr.settings import DcrOptions

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
    sections=SECTIONS,
    options=DcrOptions(),
)


def commands(experiment: Experiment) -> dict:
    """What DCR has besides the commands of every experiment."""
    trained = [arm.name for arm in experiment.compared if arm.name not in ("base", REFINED)]
    return {
        "data": data,
        "refine": training(
            experiment,
            arms=[REFINED],
            about="Move prompts that only look toxic and toxic ones apart (stage one), and score "
            "the model behind it.",
        ),
        "align": training(
            experiment,
            arms=trained,
            default="dcr",
            about="Tune an arm for safety (stage two), and first what it starts from.",
        ),
        "sweep": sweeping(experiment),
        "evaluate": evaluating(experiment),
        "agreement": agreement,
        "kernel": kernel_command(experiment),
        "separation": separation_command(experiment),
        "probe": probe,
    }


def main(arguments: list[str] | None = None, experiment: Experiment = EXPERIMENT) -> int:
    """Runs one command; returns the exit status."""
    return command_line.main(experiment, commands(experiment), arguments, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
