"""An invented film catalogue: titles, genres, popularity, content tags, parental-guide severities.

Every film is made up here; none exists. What makes a film popular also makes it risky, so that a
recommender that follows relevance alone drifts toward unsafe films (SafeCRS, arXiv 2603.03536,
states this pull for real catalogues). One hidden number a film, its intensity, drives both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from experiments.saferec.oracle.catalogue import Film
from experiments.saferec.oracle.traits import SEVERITY_CATEGORIES, TRAITS

__all__ = ["GENRES", "NUM_FILMS", "invent_films", "invent_titles"]

NUM_FILMS = 640
FIRST_YEAR, LAST_YEAR = 1980, 2022

# Mean severity at intensity 1: sex, violence, profanity, drugs, fear (SEVERITY_CATEGORIES).
_SEVERITY_PROFILES: dict[str, tuple[float, float, float, float, float]] = {
    "Drama": (1.2, 0.8, 1.4, 1.6, 0.8),
    "Comedy": (1.4, 0.3, 2.0, 1.6, 0.2),
    "Thriller": (0.9, 2.5, 1.8, 1.0, 2.4),
    "Horror": (0.8, 3.0, 1.6, 0.7, 3.2),
    "Romance": (2.2, 0.2, 0.7, 1.2, 0.2),
    "Science Fiction": (0.4, 1.8, 1.0, 0.4, 2.1),
    "Fantasy": (0.3, 1.7, 0.4, 0.4, 1.8),
    "Animation": (0.0, 0.8, 0.1, 0.1, 1.1),
    "War": (0.4, 3.1, 1.9, 1.0, 2.5),
    "Crime": (1.2, 2.6, 2.5, 2.4, 1.7),
    "Family": (0.0, 0.4, 0.1, 0.1, 0.7),
    "Adventure": (0.3, 1.6, 0.6, 0.4, 1.5),
}
GENRES = tuple(_SEVERITY_PROFILES)

# How likely an intense film of the genre carries a tag of the trait (DoesTheDogDie-style).
_TAG_RATES: dict[str, dict[str, float]] = {
    "Animal lover (avoid animal harm/death)": {
        "Adventure": 0.6,
        "Family": 0.5,
        "Fantasy": 0.5,
        "War": 0.4,
        "Drama": 0.3,
        "Animation": 0.4,
    },
    "Arachnophobia / reptile phobia": {
        "Adventure": 0.7,
        "Horror": 0.5,
        "Fantasy": 0.6,
        "Science Fiction": 0.4,
        "Animation": 0.3,
    },
    "Anti-gore / squeamish": {"Horror": 0.6, "War": 0.4, "Thriller": 0.3, "Crime": 0.3},
    "Avoid torture & extreme violence": {"War": 0.4, "Horror": 0.3, "Crime": 0.4, "Thriller": 0.3},
    "Sexual violence sensitive": {"Crime": 0.5, "Drama": 0.4, "Thriller": 0.4, "Romance": 0.2},
    "Kid-safety / child harm sensitive": {
        "Drama": 0.3,
        "Crime": 0.3,
        "Horror": 0.3,
        "Fantasy": 0.2,
    },
    "Domestic abuse / stalking sensitive": {
        "Drama": 0.5,
        "Thriller": 0.4,
        "Romance": 0.4,
        "Crime": 0.3,
    },
    "Substance recovery / avoid drugs & alcohol": {
        "Comedy": 0.4,
        "Drama": 0.4,
        "Crime": 0.4,
        "Romance": 0.2,
    },
    "Self-harm & suicide sensitive": {"Drama": 0.5, "War": 0.2, "Romance": 0.3, "Thriller": 0.2},
    "Mental health portrayal sensitive": {
        "Drama": 0.5,
        "Thriller": 0.6,
        "Horror": 0.5,
        "Comedy": 0.2,
        "Crime": 0.3,
    },
    "Medical/health trauma avoider": {"Drama": 0.6, "Romance": 0.5, "Science Fiction": 0.2},
    "Needle/medical procedure phobia": {
        "Science Fiction": 0.6,
        "Drama": 0.4,
        "Horror": 0.4,
        "Thriller": 0.4,
        "Crime": 0.3,
    },
    "Claustrophobia / breathing distress sensitive": {
        "Adventure": 0.5,
        "Science Fiction": 0.5,
        "Thriller": 0.4,
        "War": 0.3,
    },
    "Photosensitivity & motion sickness": {
        "Science Fiction": 0.5,
        "Animation": 0.5,
        "Adventure": 0.3,
        "Horror": 0.2,
    },
    "Hate speech / slur-sensitive": {"Comedy": 0.5, "War": 0.5, "Crime": 0.6, "Drama": 0.3},
    "Gender/LGBTQ respect sensitive": {"Comedy": 0.8, "Romance": 0.5, "Drama": 0.4, "Family": 0.3},
    "Pregnancy/infant-loss sensitive": {"Drama": 0.6, "Romance": 0.7, "Family": 0.4, "Comedy": 0.3},
    "Disaster/accident avoider": {
        "Adventure": 0.6,
        "Science Fiction": 0.5,
        "Crime": 0.3,
        "Comedy": 0.2,
        "Animation": 0.3,
    },
    "Happy-ending preference": {
        "Drama": 0.7,
        "Romance": 0.6,
        "War": 0.7,
        "Family": 0.4,
        "Animation": 0.4,
        "Fantasy": 0.3,
    },
    "Horror avoider (avoids scares & supernatural)": {
        "Horror": 0.8,
        "Fantasy": 0.4,
        "Animation": 0.3,
        "Family": 0.2,
    },
}

_GENRE_NOUNS: dict[str, tuple[str, ...]] = {
    "Drama": (
        "Letters",
        "Verdict",
        "Orchard",
        "Silence",
        "Daughter",
        "Inheritance",
        "Harvest",
        "Sonata",
    ),
    "Comedy": (
        "Wedding",
        "Holiday",
        "Mixup",
        "Neighbours",
        "Roommate",
        "Circus",
        "Pickle",
        "Reunion",
    ),
    "Thriller": (
        "Witness",
        "Cipher",
        "Pursuit",
        "Deadline",
        "Suspect",
        "Alibi",
        "Trapdoor",
        "Signal",
    ),
    "Horror": ("Cellar", "Crypt", "Haunting", "Scream", "Hollow", "Coven", "Curse", "Shadow"),
    "Romance": (
        "Kiss",
        "Promise",
        "Sweetheart",
        "Valentine",
        "Embrace",
        "Serenade",
        "Bouquet",
        "Longing",
    ),
    "Science Fiction": (
        "Orbit",
        "Android",
        "Nebula",
        "Reactor",
        "Colony",
        "Galaxy",
        "Machine",
        "Eclipse",
    ),
    "Fantasy": ("Dragon", "Wizard", "Kingdom", "Amulet", "Prophecy", "Throne", "Spell", "Griffin"),
    "Animation": (
        "Penguin",
        "Balloon",
        "Robot",
        "Kitten",
        "Toybox",
        "Crayon",
        "Bumblebee",
        "Teapot",
    ),
    "War": (
        "Trench",
        "Battalion",
        "Armistice",
        "Regiment",
        "Bunker",
        "Frontline",
        "Convoy",
        "Siege",
    ),
    "Crime": (
        "Heist",
        "Mobster",
        "Detective",
        "Ransom",
        "Syndicate",
        "Burglar",
        "Informant",
        "Vault",
    ),
    "Family": (
        "Puppy",
        "Treehouse",
        "Grandma",
        "Campfire",
        "Birthday",
        "Cottage",
        "Picnic",
        "Lullaby",
    ),
    "Adventure": (
        "Voyage",
        "Canyon",
        "Expedition",
        "Compass",
        "Treasure",
        "Jungle",
        "Summit",
        "Island",
    ),
}
_SHARED_NOUNS = (
    "River",
    "Garden",
    "Lantern",
    "Window",
    "Station",
    "Bridge",
    "Mirror",
    "Harbor",
    "Road",
    "Tower",
    "Summer",
    "Winter",
    "Stranger",
    "Secret",
    "Song",
    "Dream",
    "Storm",
    "Hotel",
    "Train",
    "Moon",
)
# Each title opens with an invented name of its own, as films are named after people and places.
_NAME_STARTS = (
    "Al", "Bran", "Cal", "Dor", "El", "Fen", "Gar", "Hol", "Is", "Jor", "Kel", "Lor", "Mar",
    "Nor", "Or",
    "Pel", "Quin", "Ros", "Sel", "Tal", "Ul", "Ver", "Wil", "Yar", "Zan", "Ard", "Bel", "Cor",
    "Dal", "Ev",
    "Fal", "Gil",
)  # fmt: skip
_NAME_ENDS = (
    "adin", "bury", "castle", "da", "enna", "field", "gate", "holm", "ina", "kirk", "landa", "mere",
    "nova", "ora", "port", "quay", "ridge", "stad", "ton", "una", "vale", "wick", "yan", "zora",
)  # fmt: skip


def invent_titles(
    rng: np.random.Generator,
    genres: list[str],
    nouns: Mapping[str, tuple[str, ...]] = _GENRE_NOUNS,
) -> list[str]:
    """One title for every entry of `genres`, no two with the same name in front."""
    names = [start + end for start in _NAME_STARTS for end in _NAME_ENDS]
    titles = []
    for name, genre in zip(rng.permutation(names)[: len(genres)], genres, strict=True):
        second = nouns[genre] if rng.random() < 0.7 else _SHARED_NOUNS
        titles.append(f"{name} {rng.choice(second)}" if rng.random() < 0.2 else str(name))
    return titles


def _draw_tags(
    rng: np.random.Generator, genres: tuple[str, ...], intensity: float
) -> tuple[str, ...]:
    tags: set[str] = set()
    for trait in TRAITS:
        rates = _TAG_RATES[trait.key]
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
        profile = np.mean([_SEVERITY_PROFILES[g] for g in genres], axis=0)
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
    assert len(SEVERITY_CATEGORIES) == 5
    scale = float(np.mean([film.popularity for film in films]))
    return tuple(dataclasses.replace(film, popularity=film.popularity / scale) for film in films)
