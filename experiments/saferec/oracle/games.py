"""Games as an item table: ESRB ratings and descriptors in place of warnings and parental guides."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.saferec.oracle.game_traits import (
    DESCRIPTORS,
    GAME_TRAIT_KEYS,
    GAME_TRAITS,
    RATINGS,
    GameTrait,
)
from experiments.saferec.oracle.table import RiskTable
from gdpo_jax.errors import UserError

__all__ = ["Game", "game_risk", "game_table"]


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


def game_risk(game: Game, trait: GameTrait) -> float:
    """The largest risk that the rating or a descriptor of the game carries for the trait."""
    carried = [trait.descriptors.get(descriptor, 0.0) for descriptor in game.descriptors]
    return max(trait.ratings.get(game.rating, 0.0), *carried, 0.0)


def game_table(games: Sequence[Game]) -> RiskTable:
    """The table of games."""
    risks = [[game_risk(game, trait) for trait in GAME_TRAITS] for game in games]
    shape = (len(games), len(GAME_TRAITS))
    return RiskTable(
        "games", tuple(games), GAME_TRAIT_KEYS, np.array(risks, np.float64).reshape(shape)
    )
