"""Which prompts: our own triples, published sets in a folder, or some of either."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from experiments.dcr.data.formats import XSTEST_CONTRASTS
from experiments.dcr.data.prompts import SafetyPrompt
from experiments.dcr.data.published import SETS
from experiments.dcr.data.sources import prompts_of, published_contents
from experiments.dcr.data.splits import draw_parts, hold_out_types, pool
from experiments.dcr.data.triples import own_triples
from gdpo_jax.errors import UserError

__all__ = ["OWN", "Selection", "choose"]

OWN = "own"
# To learn from, or without a use in an evaluation.
_TRAINING = ("hh-rlhf", "hh-rlhf-train", "safety-tuned", "alpaca", "alpaca-prompts", "coconot-pref")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Which prompts."""

    source: str = OWN
    """own (the triples written by hand), or a folder with published sets."""
    sets: tuple[str, ...] = ()
    """Published sets by name; unless given all that are there but those that are trained on."""
    types: tuple[str, ...] = ()
    """Of XSTest: safe types, which take their contrast prompts along; all unless given."""
    limit: int | None = None
    """Prompts of each set and kind, drawn with --draw-seed; all unless given."""
    draw_seed: int = 0
    """Of what is drawn."""


def choose(selection: Selection) -> tuple[tuple[SafetyPrompt, ...], Mapping[tuple[str, str], int]]:
    """The prompts that are meant, each text once, and how many went by the pair of their sets.

    Raises UserError for options that belong to another source, unknown names, no prompts, and files
    that are missing or damaged.
    """
    if selection.limit is not None and selection.limit < 1:
        raise UserError(f"--limit {selection.limit}; give at least 1")
    if selection.source == OWN:
        for name in ("sets", "types"):
            if getattr(selection, name):
                raise UserError(f"--{name} belongs to published sets; give --source FOLDER")
        found = list(prompts_of(own_triples()))
    else:
        found = _published(selection)
    parted = pool(found)
    kept = parted.prompts
    if selection.limit is not None:
        kept = _limited(kept, selection.limit, selection.draw_seed)
    return kept, parted.removed


def _published(selection: Selection) -> list[SafetyPrompt]:
    folder = Path(selection.source)
    contents = published_contents(folder, selection.sets or None)["published"]
    chosen = {n: prompts for n, prompts in contents.items() if selection.sets or n not in _TRAINING}
    if not chosen:
        raise UserError(
            f"{folder} has sets to learn from alone ({', '.join(contents)}); name them by --sets, "
            f"or give others of {', '.join(SETS)}"
        )
    if selection.types:
        if "xstest" not in chosen:
            raise UserError("--types are XSTest's, which is not among the sets; leave it out")
        if set(selection.types) != set(XSTEST_CONTRASTS):
            chosen["xstest"] = hold_out_types(chosen["xstest"], selection.types)[1]
    return [prompt for prompts in chosen.values() for prompt in prompts]


def _limited(prompts: tuple[SafetyPrompt, ...], limit: int, seed: int) -> tuple[SafetyPrompt, ...]:
    """At most so many of each set and kind, one of a cluster."""
    parts: dict[tuple[str, str], list[SafetyPrompt]] = {}
    for prompt in prompts:
        parts.setdefault((prompt.source, prompt.kind), []).append(prompt)
    drawn: list[SafetyPrompt] = []
    for members in parts.values():
        count = min(limit, len({prompt.cluster for prompt in members}))
        drawn += draw_parts(members, {"drawn": count}, seed=seed)["drawn"]
    return tuple(drawn)
