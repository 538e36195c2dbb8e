"""Persona leakage from the command line; `--help` lists the commands."""

import sys

from experiments.common import command_line
from experiments.common.command_line import Experiment
from experiments.persona_leakage.arms import ARMS, PARTNERS, rewards, tokenizer
from experiments.persona_leakage.claims import CLAIMS
from experiments.persona_leakage.commands.attack import attacking
from experiments.persona_leakage.commands.data import data
from experiments.persona_leakage.commands.evaluate import evaluating
from experiments.persona_leakage.commands.filter import filter_log
from experiments.persona_leakage.commands.fingerprint import fingerprint
from experiments.persona_leakage.commands.store import store
from experiments.persona_leakage.commands.strength import measuring_strength
from experiments.persona_leakage.examples import EXAMPLES
from experiments.persona_leakage.metrics import METRICS, score
from experiments.persona_leakage.page import FILES, SECTIONS
from experiments.persona_leakage.presets import PRESETS
from experiments.persona_leakage.records import open_records

EXPERIMENT = Experiment(
    name="persona_leakage",
    title="Persona leakage",
    presets=PRESETS,
    arms=ARMS,
    open_data=open_records,
    tokenizer=tokenizer,
    examples=EXAMPLES,
    rewards=rewards,
    score=score,
    metrics=METRICS,
    claims=CLAIMS,
    sections=SECTIONS,
    files=FILES,
)


def commands(experiment: Experiment) -> dict:
    """What persona leakage has besides the commands of every experiment."""
    return {
        "data": data,
        "attack": attacking(experiment, partners=PARTNERS),
        "evaluate": evaluating(experiment),
        "filter": filter_log,
        "fingerprint": fingerprint,
        "strength": measuring_strength(
            experiment, partners=PARTNERS, remembering="separation", pooled="shared"
        ),
        "store": store,
    }


def main(arguments: list[str] | None = None, experiment: Experiment = EXPERIMENT) -> int:
    """Runs one command; returns the exit status."""
    return command_line.main(experiment, commands(experiment), arguments, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
