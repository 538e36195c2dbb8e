"""Styles drawn from an inventory of habits.

Each habit is shared by several users; what tells one from another is which of them come together,
as in real writing. The inventory is our own.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments.common.files.json_rows import read_resource
from experiments.persona_leakage.data.users import Style

__all__ = ["draw_style"]

_WITHOUT = 0.15  # of users have no opener; likewise no closer, and no filler
_SPELLINGS = 3  # groups of spellings that a user has
_RATES = (0.5, 0.7, 0.9)


@functools.cache
def _habits() -> Mapping[str, Any]:
    return MappingProxyType(
        read_resource("experiments.persona_leakage.data.embedded", "styles.json")
    )


def draw_style(rng: np.random.Generator) -> Style:
    """A random style: one habit of each sort or none, and three groups of spellings."""
    habits = _habits()
    chosen = {
        name: "" if rng.random() < _WITHOUT else str(rng.choice(habits[plural]))
        for name, plural in (("opener", "openers"), ("closer", "closers"), ("filler", "fillers"))
    }
    groups = sorted(rng.choice(len(habits["spellings"]), size=_SPELLINGS, replace=False))
    return Style(
        **chosen,
        ending=str(rng.choice(habits["endings"])),
        spellings=tuple((a, b) for group in groups for a, b in habits["spellings"][group]),
        lower=bool(rng.random() < 0.5),
        rate=float(rng.choice(_RATES)),
    )
