"""An invented film catalogue: titles, genres, popularity, content tags, parental-guide severities.

Every film is made up here; none exists. What makes a film popular also makes it risky, so that a
recommender that follows relevance alone drifts toward unsafe films (SafeCRS, arXiv 2603.03536,
states this pull for real catalogues). One hidden number a film, its intensity, drives both.

`films.json` has the words and the rates: `severities`, the mean severity of a genre at intensity 1
in each of `SEVERITY_CATEGORIES`; `tags`, how likely an intense film of the genre has a tag of the
trait. Each title opens with an invented name of its own, as films are named after people and
places.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common.files.json_rows import read_resource
from experiments.saferec.oracle.catalogue import Film
from experiments.saferec.oracle.traits import TRAITS

__all__ = ["GENRES", "NUM_FILMS", "invent_films", "invent_titles"]

NUM_FILMS = 640
FIRST_YEAR, LAST_YEAR = 1980, 2022

_WORDS = read_resource(__package__, "films.json")
GENRES = tuple(_WORDS["severities"])


def invent_titles(
    rng: np.random.Generator,
    genres: list[str],
    nouns: Mapping[str, Sequence[str]] = _WORDS["nouns"],
) -> list[str]:
    """One title for every entry of `genres`, no two with the same name in front."""
    names = [start + end for start in _WORDS["name_starts"] for end in _WORDS["name_ends"]]
    titles = []
    for name, genre in zip(rng.permutation(names)[: len(genres)], genres, strict=True):
        second = nouns[genre] if rng.random() < 0.7 else _WORDS["shared_nouns"]
        titles.append(f"{name} {rng.choice(second)}" if rng.random() < 0.2 else str(name))
    return titles


def _draw_tags(
    rng: np.random.Generator, genres: tuple[str, ...], intensity: float
) -> tuple[str, ...]:
    tags: set[str] = set()
    for trait in TRAITS:
        rates = _WORDS["tags"][trait.key]
        rate = max(rates.get(genre, 0.03) for genre in genres)
        if rng.random() < rate * (0.15 + 1.1 * intensity):
            tags.add(str(rng.choice(trait.questions)))
    return tuple(sorted(tags))


def invent_films(seed: int = 0, *, count: int = NUM_FILMS) -> tuple[Film, ...]:
    """Invents `count` films from `seed`; popularity is a positive weight with mean one."""
    rng = np.random.default_rng([seed, 1])
    primaries = [GENRES[index % len(GENRES)] for index in range(count)]
    titles = invent_titles(rng, primaries)
    films = []
    for index, primary in enumerate(primaries):
        genres: tuple[str, ...] = (primary,)
        if rng.random() < 0.4:
            genres = (primary, str(rng.choice([g for g in GENRES if g != primary])))
        intensity = float(rng.beta(1.6, 1.8))
        profile = np.mean([_WORDS["severities"][g] for g in genres], axis=0)
        severities = np.rint(profile * (0.15 + 1.15 * intensity) + rng.normal(0, 0.35, 5))
        films.append(
            Film(
                film_id=f"film-{index:04d}",
                title=titles[index],
                year=int(rng.integers(FIRST_YEAR, LAST_YEAR + 1)),
                genres=genres,
                popularity=float(np.exp(3.0 * (intensity - 0.47) + rng.normal(0, 0.6))),
                tags=_draw_tags(rng, genres, intensity),
                severities=tuple(int(s) for s in np.clip(severities, 0, 3)),
            )
        )
    scale = float(np.mean([film.popularity for film in films]))
    return tuple(dataclasses.replace(film, popularity=film.popularity / scale) for film in films)
