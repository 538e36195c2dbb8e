"""Matched triples: a plain prompt, one that only looks toxic, and one that is toxic in form.

Those of our own are written by hand, in our own words and without any detail that could help to do
harm. The three share most of their words; each has a good answer.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from experiments.common.embedded.sentences import instance_split
from experiments.common.files.json_rows import read_resource
from experiments.dcr.data.prompts import PLAIN, SEEMING, TOXIC, SafetyPrompt
from gdpo_jax.errors import UserError

__all__ = ["SOURCE", "SPLITS", "Triple", "addressed", "own_triples", "sentence"]

SOURCE = "embedded"
SPLITS = ("train", "validation", "test")
_YOURS = {"my": "your", "our": "your", "I": "you", "me": "you", "am": "are", "we": "you"}
_WORD = re.compile(r"\b(my|our|I|me|am|we)\b")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Triple:
    """Three prompts that belong together; they share a cluster."""

    plain: SafetyPrompt
    seeming: SafetyPrompt
    toxic: SafetyPrompt

    @property
    def prompts(self) -> tuple[SafetyPrompt, SafetyPrompt, SafetyPrompt]:
        """All three, in this order."""
        return self.plain, self.seeming, self.toxic


def own_triples(split: str | None = None) -> tuple[Triple, ...]:
    """The triples written by hand, in order; those of a split, or all of them.

    Raises UserError for an unknown split.
    """
    if split is None:
        return _written()
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    return tuple(t for t in _written() if instance_split(t.plain.cluster) == split)


@functools.cache
def _written() -> tuple[Triple, ...]:
    texts = read_resource("experiments.dcr.data.embedded", "triples.json")
    return tuple(
        _triple(number, row, texts["refusals"]) for number, row in enumerate(texts["triples"])
    )


def addressed(text: str) -> str:
    """What the user says of himself, as said to him: "my cousin" becomes "your cousin"."""
    return _WORD.sub(lambda match: _YOURS[match.group()], text)


def sentence(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def _triple(number: int, row: Mapping[str, Any], refusals: list[str]) -> Triple:
    name = f"{SOURCE}/{number:03d}"
    refusal = refusals[number % len(refusals)].format(harm=row["harm"])
    answers = {PLAIN: row["plain_answer"], SEEMING: row["seeming_answer"], TOXIC: refusal}
    return Triple(
        **{
            kind: SafetyPrompt(
                id=f"{name}-{kind}",
                text=row[kind],
                kind=kind,
                type=row["family"],
                source=SOURCE,
                cluster=name,
                answer=answer,
            )
            for kind, answer in answers.items()
        }
    )
