"""Games as an item table: ESRB ratings and descriptors in place of warnings and parental guides.

SafeCRS (arXiv 2603.03536) names ESRB ratings as the source of its SafeGame benchmark, and nothing
else of it is public: the traits and numbers in `games.json` are ours. A label carries a risk
because ESRB grades its descriptors ("Mild Blood", "Blood", "Blood and Gore").
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common.files.json_rows import read_resource
from experiments.saferec.oracle.table import RiskTable
from gdpo_jax.errors import UserError

__all__ = [
    "DESCRIPTORS",
    "GAME_TRAITS",
    "GAME_TRAIT_KEYS",
    "RATINGS",
    "Game",
    "GameTrait",
    "game_table",
]


@dataclasses.dataclass(frozen=True)
class GameTrait:
    """One sensitivity; five share key and slug with one of films, as they are the same."""

    key: str
    slug: str
    risks: Mapping[str, float]  # in [0, 1], of the descriptors and ratings that carry any


_TABLE = read_resource(__package__, "games.json")
RATINGS: tuple[str, ...] = tuple(_TABLE["ratings"])  # strictest last
DESCRIPTORS: tuple[str, ...] = tuple(_TABLE["descriptors"])
GAME_TRAITS = tuple(GameTrait(**row) for row in _TABLE["traits"])
GAME_TRAIT_KEYS = tuple(trait.key for trait in GAME_TRAITS)


@dataclasses.dataclass(frozen=True)
class Game:
    """One game: `rating` is one of `RATINGS`, `descriptors` are some of `DESCRIPTORS`."""

    game_id: str
    title: str
    year: int
    genres: tuple[str, ...]
    popularity: float
    rating: str
    descriptors: tuple[str, ...]

    def __post_init__(self):
        if not self.title.strip():
            raise UserError(f"game {self.game_id!r} has no title")
        if self.rating not in RATINGS:
            raise UserError(f"game {self.title!r}: rating {self.rating!r}; legal: {RATINGS}")
        for descriptor in self.descriptors:
            if descriptor not in DESCRIPTORS:
                legal = ", ".join(DESCRIPTORS)
                raise UserError(f"game {self.title!r}: descriptor {descriptor!r}; legal: {legal}")


def game_table(games: Sequence[Game]) -> RiskTable:
    """The table of games; the risk of a game is the largest that a label of it carries."""
    risks = np.zeros((len(games), len(GAME_TRAITS)))
    for row, game in enumerate(games):
        for column, trait in enumerate(GAME_TRAITS):
            labels = (game.rating, *game.descriptors)
            risks[row, column] = max(trait.risks.get(label, 0.0) for label in labels)
    return RiskTable("games", tuple(games), GAME_TRAIT_KEYS, risks)
