"""The CURaTe experiment from the command line; `--help` lists the commands."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common import command_line
from experiments.common.command_line import Data, Experiment
from experiments.common.scores.table import Table
from experiments.curate.arms import ARMS, EXAMPLES, rewards, tokenizer
from experiments.curate.chat import chatting
from experiments.curate.claims import CLAIMS
from experiments.curate.commands.agreement import agreement
from experiments.curate.commands.data import data
from experiments.curate.commands.evaluate import evaluating
from experiments.curate.data.cases import from_record
from experiments.curate.data.examples import conversation, example_record
from experiments.curate.data.generated import SPLITS, generate_examples
from experiments.curate.data.sources import open_cases
from experiments.curate.data.tfds_builder import load_examples, write_dataset
from experiments.curate.dialogues import Dialogue
from experiments.curate.judging.rules import IDENTITY, rules_judge
from experiments.curate.metrics import METRICS, table
from experiments.curate.page import SECTIONS
from experiments.curate.presets import PRESETS
from experiments.curate.serve.command import serving
from experiments.curate.settings import CuratePreset, TurnsOption


def open_data(folder: Path, preset: CuratePreset, own: bool) -> Data:
    """The generated dialogues of a data set. Raises UserError where it is missing or damaged."""
    if own and not (folder / "curate").exists():
        sizes = {split: preset.test_pairs for split in SPLITS} | {"train": preset.training_pairs}
        write_dataset(
            folder,
            open_cases(seed=preset.data_seed),
            {
                split: generate_examples(
                    split, n, seed=preset.data_seed, per_category=preset.hazards
                )
                for split, n in sizes.items()
            },
            about={
                "source": "own",
                "seed": preset.data_seed,
                "pairs": sizes,
                "hazards": preset.hazards,
            },
        )
    records = {
        split: [
            {**example_record(example), "prompt": conversation(example)}
            for example in load_examples(folder, split)
        ]
        for split in SPLITS
    }
    return Data(records=records, judged={"judge": IDENTITY})


def score(
    texts: Sequence[str], records: Sequence[Mapping[str, Any]], data: Data, preset: CuratePreset
) -> Table:
    """The metrics of every last answer, by the rules judge."""
    del data, preset
    dialogues = [
        Dialogue(
            case=from_record(record),
            answers=(text,) if text.strip() else (),
            failed="" if text.strip() else "the dialogue came to no last answer",
        )
        for text, record in zip(texts, records, strict=True)
    ]
    whole = [d for d in dialogues if not d.failed and not d.case.control]
    verdicts = rules_judge([d.judged for d in whole])
    return table(dialogues, {d.case.id: verdict for d, verdict in zip(whole, verdicts)})


EXPERIMENT = Experiment(
    name="curate",
    title="CURaTe",
    presets=PRESETS,
    arms=ARMS,
    open_data=open_data,
    tokenizer=tokenizer,
    examples=EXAMPLES,
    rewards=rewards,
    score=score,
    # What an arm's answers do not tell, such as their token counts, stands with `evaluate` alone.
    metrics=tuple(m for m in METRICS if m.name in ("pass", "unclear", "warns", "words", "failed")),
    claims=CLAIMS,
    sections=SECTIONS,
    options=TurnsOption(),
)


def commands(experiment: Experiment) -> dict:
    """What CURaTe has besides the commands of every experiment."""
    return {
        "data": data,
        "evaluate": evaluating(experiment),
        "agreement": agreement,
        "serve": serving(experiment),
        "chat": chatting(experiment),
    }


def main(arguments: list[str] | None = None, experiment: Experiment = EXPERIMENT) -> int:
    """Runs one command; returns the exit status."""
    return command_line.main(experiment, commands(experiment), arguments, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
