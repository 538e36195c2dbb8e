"""An invented table of games for the SafeGame miniature; none of them exists.

As in `films.py`, one hidden number a game, its intensity, drives popularity and content alike. The
rating follows from the descriptors, the strictest of them deciding.
"""

import numpy as np

from experiments.saferec.embedded.films import invent_titles
from experiments.saferec.oracle.game_traits import DESCRIPTORS, RATINGS
from experiments.saferec.oracle.games import Game

__all__ = ["NUM_GAMES", "invent_games"]

NUM_GAMES = 360
FIRST_YEAR, LAST_YEAR = 1995, 2022

# Mean step on each ladder at intensity 1: violence, blood, language, sex, substances, chance, net.
_PROFILES: dict[str, tuple[float, float, float, float, float, float, float]] = {
    "Action": (3.6, 2.9, 1.8, 0.8, 0.8, 0.2, 0.4),
    "Adventure": (2.0, 1.6, 1.6, 1.2, 1.4, 0.2, 0.1),
    "Role-Playing": (2.6, 2.1, 1.6, 2.2, 1.6, 0.8, 0.4),
    "Strategy": (2.2, 1.3, 0.8, 0.4, 0.8, 0.4, 0.7),
    "Puzzle": (0.3, 0.0, 0.2, 0.2, 0.2, 0.6, 0.3),
    "Sports": (0.6, 0.4, 1.2, 0.4, 0.6, 1.0, 0.9),
    "Racing": (0.5, 0.1, 1.0, 0.5, 0.6, 0.7, 0.9),
    "Shooter": (4.2, 3.9, 2.4, 0.6, 1.0, 0.2, 1.0),
    "Survival": (3.2, 3.9, 2.0, 0.8, 1.2, 0.1, 0.6),
    "Simulation": (0.4, 0.3, 0.5, 1.4, 1.2, 0.6, 0.4),
    "Party": (0.5, 0.1, 1.0, 1.2, 1.6, 0.8, 0.8),
    "Card": (0.8, 0.3, 0.5, 0.9, 1.4, 1.6, 0.8),
}
_LADDERS: tuple[tuple[str, ...], ...] = (
    ("Cartoon Violence", "Fantasy Violence", "Violence", "Intense Violence"),
    ("Mild Blood", "Animated Blood", "Blood", "Blood and Gore"),
    ("Mild Language", "Language", "Strong Language"),
    ("Suggestive Themes", "Sexual Themes", "Sexual Content", "Strong Sexual Content"),
    ("Tobacco Reference", "Alcohol Reference", "Use of Alcohol", "Use of Drugs"),
    ("Gambling Themes", "In-Game Purchases", "In-Game Purchases (Includes Random Items)",
     "Simulated Gambling"),
    ("Users Interact", "Shares Location", "Unrestricted Internet"),
)  # fmt: skip
# What the ladders lack, with the chance of an intense game to have it.
_EXTRAS = {
    "Comic Mischief": 0.15,
    "Crude Humor": 0.15,
    "Mature Humor": 0.1,
    "Sexual Violence": 0.12,
    "Partial Nudity": 0.1,
    "Strong Lyrics": 0.08,
    "Drug Reference": 0.1,
}
_LEAST_RATING = {
    "Violence": "T",
    "Intense Violence": "M",
    "Blood": "T",
    "Blood and Gore": "M",
    "Strong Language": "M",
    "Sexual Themes": "T",
    "Sexual Content": "M",
    "Strong Sexual Content": "AO",
    "Sexual Violence": "M",
    "Partial Nudity": "T",
    "Mature Humor": "M",
    "Use of Alcohol": "T",
    "Use of Drugs": "M",
    "Simulated Gambling": "T",
    "Crude Humor": "E10+",
    "Language": "T",
    "Fantasy Violence": "E10+",
    "Mild Language": "E10+",
}
_NOUNS = {
    "Action": ("Blade", "Fury", "Impact", "Rampage"),
    "Adventure": ("Passage", "Ruins", "Lighthouse", "Expedition"),
    "Role-Playing": ("Saga", "Oath", "Realm", "Relic"),
    "Strategy": ("Empire", "Command", "Frontier", "Dominion"),
    "Puzzle": ("Tiles", "Maze", "Blocks", "Riddle"),
    "Sports": ("League", "Cup", "Champions", "Season"),
    "Racing": ("Circuit", "Drift", "Rally", "Turbo"),
    "Shooter": ("Strike", "Arsenal", "Squad", "Recoil"),
    "Survival": ("Outbreak", "Wasteland", "Famine", "Shelter"),
    "Simulation": ("Farm", "Tycoon", "Airport", "Village"),
    "Party": ("Mixer", "Carnival", "Karaoke", "Minigames"),
    "Card": ("Decks", "Duel", "Gambit", "Aces"),
}
_STEPS = 0.45  # spread of the step a game takes on a ladder


def invent_games(seed: int = 0, *, count: int = NUM_GAMES) -> tuple[Game, ...]:
    """Invents `count` games from `seed`; popularity is a positive weight with mean one."""
    rng = np.random.default_rng([seed, 3])
    genres = tuple(_PROFILES)
    primaries = [genres[index % len(genres)] for index in range(count)]
    titles = invent_titles(rng, primaries, _NOUNS)
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
    profile = np.mean([_PROFILES[genre] for genre in genres], axis=0)
    steps = np.rint(profile * (0.15 + 1.15 * intensity) + rng.normal(0, _STEPS, len(profile)))
    drawn = {
        ladder[min(int(step), len(ladder)) - 1]
        for ladder, step in zip(_LADDERS, steps, strict=True)
        if step >= 1
    }
    drawn |= {name for name, rate in _EXTRAS.items() if rng.random() < rate * 1.6 * intensity}
    return tuple(name for name in DESCRIPTORS if name in drawn)


def _rating_of(descriptors: tuple[str, ...]) -> str:
    needed = [RATINGS.index(_LEAST_RATING.get(name, "E")) for name in descriptors]
    return RATINGS[max(needed, default=0)]
