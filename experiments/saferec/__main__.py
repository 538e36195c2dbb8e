"""The SafeRec experiment from the command line; `--help` lists the stages."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from experiments.common import command_line
from experiments.common.command_line import Data, Experiment, training
from experiments.common.runs.stages import Imitate, Optimize
from experiments.common.scores.table import Table
from experiments.saferec.arms import ARMS, EXAMPLES, rewards, tokenizer
from experiments.saferec.claims import CLAIMS
from experiments.saferec.data.corpus import load_corpus
from experiments.saferec.data.dataset import build_dataset, require_config
from experiments.saferec.data.own_conversations import inject_command
from experiments.saferec.data.published_folder import build_published, describe
from experiments.saferec.metrics import METRICS, score_texts
from experiments.saferec.page import SECTIONS
from experiments.saferec.presets import PRESETS
from experiments.saferec.scoring.command import evaluate
from experiments.saferec.scoring.references import scoring_settings
from experiments.saferec.settings import LevelOption, SafeRecPreset
from experiments.saferec.zero_shot import zero_shot
from gdpo_jax.errors import UserError


def open_data(folder: Path, preset: SafeRecPreset, own: bool) -> Data:
    """The conversations of a data set, and who judges items. Raises UserError as `load_corpus`."""
    if own:
        build_dataset(folder)
    else:
        require_config(folder, "conversations")
    corpus = load_corpus(folder, convention=preset.convention, oracle=preset.oracle)
    judged = scoring_settings(
        corpus.oracle,
        source="the data set's own",
        options=preset.oracle,
        convention=preset.convention,
    )
    return Data(records=corpus.records, judged=judged, source=corpus)


def score(
    texts: Sequence[str], records: Sequence[Mapping], data: Data, preset: SafeRecPreset
) -> Table:
    """The metrics of every answer under the preset's convention."""
    return score_texts(
        texts,
        records,
        oracle=data.source.oracle,
        catalogue=data.source.catalogue,
        convention=preset.convention,
    )


def data(
    data_dir: Path = Path("runs/mini/data"),
    domain: Literal["films", "games"] | None = None,
    source: Path | None = None,
) -> None:
    """Build a data set (TFDS, array_record): an embedded one, or one of published files.

    Args:
        data_dir: folder to write to; an embedded data set that is there already is kept.
        domain: the embedded films (the default), or the embedded games (SafeGame).
        source: folder of published SafeRec files to convert instead; refused rows are listed.
    """
    console = Console(soft_wrap=True)
    if source is None:
        sizes = build_dataset(data_dir, domain)
        lines = [", ".join(f"{count} {name}" for name, count in sizes.items())]
    elif domain is not None:
        raise UserError("give domain or source: published files are about films")
    else:
        lines = describe(build_published(source, data_dir))
    for line in lines:
        console.print(f"{data_dir}: {line}", highlight=False, markup=False)


EXPERIMENT = Experiment(
    name="saferec",
    title="SafeRec",
    presets=PRESETS,
    arms=ARMS,
    open_data=open_data,
    tokenizer=tokenizer,
    examples=EXAMPLES,
    rewards=rewards,
    score=score,
    metrics=METRICS,
    claims=CLAIMS,
    sections=SECTIONS,
    options=LevelOption(),
)


def commands(experiment: Experiment) -> dict:
    """What SafeRec has besides the commands of every experiment."""
    arms = experiment.compared
    supervised = [arm.name for arm in arms if isinstance(arm.stage, Imitate)]
    following = [arm.name for arm in arms if isinstance(arm.stage, Optimize)]
    return {
        "data": data,
        "inject": inject_command,
        "sft": training(
            experiment,
            arms=supervised,
            default="safe-sft",
            about="Train and score a supervised arm: sft imitates the raw teacher, safe-sft the "
            "teacher without what hurts the user.",
        ),
        "rl": training(
            experiment,
            arms=following,
            about="Train and score a reinforcement learning arm, and first the supervised arm it "
            "starts from.",
        ),
        "evaluate": evaluate,
        "zero-shot": zero_shot,
    }


def main(arguments: list[str] | None = None, experiment: Experiment = EXPERIMENT) -> int:
    """Runs one command; returns the exit status."""
    return command_line.main(experiment, commands(experiment), arguments, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
