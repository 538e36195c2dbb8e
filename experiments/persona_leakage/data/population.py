"""The embedded population: 24 enrolled users in two halves, 12 development and 12 test users."""

from collections.abc import Sequence

import numpy as np

from experiments.persona_leakage.data.marks import draw_marks
from experiments.persona_leakage.data.styles import draw_style
from experiments.persona_leakage.data.users import Style, User

__all__ = ["HALF", "SOURCES", "enrolled", "population"]

HALF = 12  # users of each half, and of development and of test
SOURCES = "a"  # the half whose conversations are left out of the second run of a pair


def population(seed: int = 0) -> tuple[User, ...]:
    """All users, enrolled ones first; no two have the same style, nor a mark in common."""
    rng = np.random.default_rng([seed, 1])
    styles: list[Style] = []
    while len(styles) < 4 * HALF:
        style = draw_style(rng)
        if style not in styles:
            styles.append(style)
    known = [
        User(
            id=f"user-{number:02d}",
            split="enrolled",
            half="a" if number < HALF else "b",
            style=style,
            marks=marks,
        )
        for number, (style, marks) in enumerate(
            zip(styles[: 2 * HALF], draw_marks(rng, 2 * HALF), strict=True)
        )
    ]
    strangers = [
        User(id=f"{split}-{number:02d}", split=split, style=styles[first + number])
        for split, first in (("development", 2 * HALF), ("test", 3 * HALF))
        for number in range(HALF)
    ]
    return (*known, *strangers)


def enrolled(users: Sequence[User], half: str | None = None) -> tuple[User, ...]:
    """The enrolled users, or those of one half."""
    known = [user for user in users if user.split == "enrolled"]
    return tuple(user for user in known if half is None or user.half == half)
