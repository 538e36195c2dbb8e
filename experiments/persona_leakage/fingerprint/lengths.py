"""Lengths of texts at which scores are compared: the shorter a text, the less its scores differ.

A level is a number of characters, or None for a whole text. `L` levels.
"""

from collections.abc import Sequence

import numpy as np

from experiments.persona_leakage.fingerprint.corpus import plain

__all__ = ["LEVELS", "cut", "level_of", "levels_for"]

Level = int | None
LEVELS: tuple[Level, ...] = (140, 280, 500, 1000, 2000, None)


def levels_for(texts: Sequence[str]) -> tuple[Level, ...]:
    """The levels below the median length of some texts, and the whole text."""
    median = float(np.median([len(plain(text)) for text in texts]))
    return tuple(level for level in LEVELS if level is None or level < median)


def cut(text: str, level: Level) -> str:
    """The first characters of a text, with single spaces between its words."""
    return plain(text)[:level]


def level_of(characters: int, levels: Sequence[Level], typical: float) -> int:
    """Position of the level that is nearest in ratio; a whole text has `typical` characters."""
    sizes = np.array([typical if level is None else level for level in levels], dtype=np.float64)
    return int(np.argmin(np.abs(np.log(sizes) - np.log(max(characters, 1)))))
