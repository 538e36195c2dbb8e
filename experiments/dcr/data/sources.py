"""All prompts that a data set is made of, by config and split: our own, and published sets."""

from collections.abc import Sequence
from pathlib import Path

from experiments.dcr.data.generated import generate_triples
from experiments.dcr.data.instructions import generate_instructions
from experiments.dcr.data.prompts import SafetyPrompt
from experiments.dcr.data.published import SETS, find_sets, read_set
from experiments.dcr.data.triples import SPLITS, Triple, own_triples
from gdpo_jax.errors import UserError

__all__ = ["Contents", "own_contents", "prompts_of", "published_contents"]

Contents = dict[str, dict[str, tuple[SafetyPrompt, ...]]]  # by config, then by split


def prompts_of(triples: Sequence[Triple]) -> tuple[SafetyPrompt, ...]:
    """The prompts of triples, three by three."""
    return tuple(prompt for triple in triples for prompt in triple.prompts)


def own_contents(*, training: int, held_out: int, seed: int = 0) -> Contents:
    """Generated triples and instructions, and the triples written by hand.

    training: triples of the training split, and as many instructions; held_out: of validation and
    of test, likewise. Raises UserError as `generate_triples` and `generate_instructions`.
    """
    counts = {split: training if split == "train" else held_out for split in SPLITS}
    return {
        "generated": {s: prompts_of(generate_triples(s, n, seed=seed)) for s, n in counts.items()},
        "instructions": {
            s: tuple(generate_instructions(s, n, seed=seed)) for s, n in counts.items()
        },
        "embedded": {split: prompts_of(own_triples(split)) for split in SPLITS},
    }


def published_contents(folder: Path, names: Sequence[str] | None = None) -> Contents:
    """The published sets below a folder, each a split; all there are unless names are given.

    Raises UserError as `find_sets` and `read_set`, and for a named set that is not there.
    """
    for name in names or ():
        if name not in SETS:
            raise UserError(f"no set {name!r}; there are {', '.join(SETS)}")
    found = find_sets(folder)
    for name in names or ():
        if name not in found:
            raise UserError(f"no file of {name} in {folder}; there are {', '.join(found)}")
    chosen = tuple(found) if names is None else tuple(dict.fromkeys(names))
    return {"published": {name: read_set(name, found[name]) for name in chosen}}
