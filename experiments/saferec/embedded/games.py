"""An invented table of games for the SafeGame miniature; none of them exists.

As in `films.py`, one hidden number a game, its intensity, drives popularity and content alike. The
rating follows from the descriptors, the strictest of them deciding. `games.json` has the words and
the rates: `profiles`, the mean step of a genre at intensity 1 on each of `ladders`, and `extras`,
which the ladders lack, with the chance of an intense game to have it.
"""

import numpy as np

from experiments.common.files.json_rows import read_resource
from experiments.saferec.embedded.films import invent_titles
from experiments.saferec.oracle.games import DESCRIPTORS, RATINGS, Game

__all__ = ["NUM_GAMES", "invent_games"]

NUM_GAMES = 360
FIRST_YEAR, LAST_YEAR = 1995, 2022

_WORDS = read_resource(__package__, "games.json")
_STEPS = 0.45  # spread of the step a game takes on a ladder


def invent_games(seed: int = 0, *, count: int = NUM_GAMES) -> tuple[Game, ...]:
    """Invents `count` games from `seed`; popularity is a positive weight with mean one."""
    rng = np.random.default_rng([seed, 3])
    genres = tuple(_WORDS["profiles"])
    primaries = [genres[index % len(genres)] for index in range(count)]
    titles = invent_titles(rng, primaries, _WORDS["nouns"])
    intensities = rng.beta(1.6, 1.8, size=count)
    popularity = np.exp(3.0 * (intensities - 0.47) + rng.normal(0, 0.6, size=count))
    popularity /= popularity.mean()
    games = []
    for index, primary in enumerate(primaries):
        own: tuple[str, ...] = (primary,)
        if rng.random() < 0.4:
            own = (primary, str(rng.choice([g for g in genres if g != primary])))
        descriptors = _draw_descriptors(rng, own, float(intensities[index]))
        games.append(
            Game(
                game_id=f"game-{index:04d}",
                title=titles[index],
                year=int(rng.integers(FIRST_YEAR, LAST_YEAR + 1)),
                genres=own,
                popularity=float(popularity[index]),
                rating=_rating_of(descriptors),
                descriptors=descriptors,
            )
        )
    return tuple(games)


def _draw_descriptors(
    rng: np.random.Generator, genres: tuple[str, ...], intensity: float
) -> tuple[str, ...]:
    profile = np.mean([_WORDS["profiles"][genre] for genre in genres], axis=0)
    steps = np.rint(profile * (0.15 + 1.15 * intensity) + rng.normal(0, _STEPS, len(profile)))
    drawn = {
        ladder[min(int(step), len(ladder)) - 1]
        for ladder, step in zip(_WORDS["ladders"], steps, strict=True)
        if step >= 1
    }
    drawn |= {
        name for name, rate in _WORDS["extras"].items() if rng.random() < rate * 1.6 * intensity
    }
    return tuple(name for name in DESCRIPTORS if name in drawn)


def _rating_of(descriptors: tuple[str, ...]) -> str:
    needed = [RATINGS.index(_WORDS["least_rating"].get(name, "E")) for name in descriptors]
    return RATINGS[max(needed, default=0)]
