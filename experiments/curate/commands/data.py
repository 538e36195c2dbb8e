"""`data`: dialogues of any source as a data set on disk."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from experiments.curate.commands.selection import Selection, choose
from experiments.curate.data.generated import SPLITS, generate_examples
from experiments.curate.data.sources import OWN
from experiments.curate.data.tfds_builder import write_dataset
from gdpo_jax.errors import UserError

__all__ = ["data"]

_TRAINING, _TEST = 2400, 200


def data(
    data_dir: Path = Path("runs/mini/data"),
    selection: Annotated[Selection, arg(name="")] = Selection(),
    training_pairs: int | None = None,
    test_pairs: int | None = None,
) -> None:
    """Write dialogues to a folder (TFDS, array_record), and print how many there are.

    Beside the embedded rows stand generated dialogues to train on. Published workbooks and PrefEval
    are for testing alone.

    Args:
        data_dir: folder to write to, in which there is no such data set yet.
        training_pairs: generated dialogues to learn from, each with its control twin; 2400 unless
            given.
        test_pairs: of validation and of test, likewise; 200 unless given.
    """
    own = selection.source == OWN
    for name, value in (("training-pairs", training_pairs), ("test-pairs", test_pairs)):
        if value is not None and not own:
            raise UserError(f"--{name} belongs to the embedded rows; leave it out, or --source")
    chosen = choose(selection)
    pairs = dict.fromkeys(SPLITS, _TEST if test_pairs is None else test_pairs)
    pairs["train"] = _TRAINING if training_pairs is None else training_pairs
    examples = {
        split: generate_examples(split, count, seed=selection.data_seed)
        for split, count in pairs.items()
        if own
    }
    about = {**chosen.about, **({"pairs": pairs} if own else {})}
    folder = write_dataset(data_dir, chosen.cases, examples, given=chosen.given, about=about)
    console = Console(soft_wrap=True)
    counts = {"cases": Counter(case.scenario for case in chosen.cases)}
    if own:
        counts["examples"] = Counter({split: len(found) for split, found in examples.items()})
    for config, sizes in counts.items():
        line = ", ".join(f"{name} {count}" for name, count in sizes.items())
        console.print(f"{folder}, {config}: {line}", highlight=False, markup=False)
