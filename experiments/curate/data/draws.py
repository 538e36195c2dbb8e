"""What is drawn for a dialogue: one fact, three trivia questions, three unrelated preferences.

The published code draws without a seed. Here each row has a generator of its own, so that a row's
draws depend neither on the order nor on the number of rows.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.curate.data.construction import Construction
from experiments.curate.data.tables import Tables

__all__ = ["Drawn", "draw"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """The texts of one dialogue, shared by all variants of its row that are compared as pairs."""

    fact: str
    trivia: tuple[str, str, str]
    preferences: tuple[str, str, str]


def draw(tables: Tables, construction: Construction, *, seed: int, group: int, row: int) -> Drawn:
    """The draw of a row. group: variants of a row with the same group share it."""
    rng = np.random.default_rng([seed, group, row])
    trivia = tables.trivia
    if construction.distinct_trivia:
        trivia = tuple(dict.fromkeys(trivia))
    # The fact comes first and the preferences last, as each is drawn whether it is used or not.
    (fact,) = _sample(rng, tables.facts, 1)
    q1, q2, q3 = _sample(rng, trivia, 3)
    p1, p2, p3 = _sample(rng, tables.preferences, 3)
    return Drawn(fact=fact, trivia=(q1, q2, q3), preferences=(p1, p2, p3))


def _sample(rng: np.random.Generator, texts: Sequence[str], count: int) -> list[str]:
    return [texts[i] for i in rng.choice(len(texts), size=count, replace=False)]
