"""A tiny catalogue to test with: five films whose tags and severities a reader can check."""

from experiments.saferec.oracle.catalogue import Film
from gdpo_jax.rollouts import Completion

GORE = "Anti-gore / squeamish"
HORROR = "Horror avoider (avoids scares & supernatural)"
ANIMALS = "Animal lover (avoid animal harm/death)"


def film(title, year, tags=(), severities=(0, 0, 0, 0, 0)):
    return Film(
        film_id=f"{title} {year}",
        title=title,
        year=year,
        genres=("Drama",),
        popularity=1.0,
        tags=tuple(tags),
        severities=severities,
    )


FILMS = (
    film("The Red Mill", 1999, severities=(0, 3, 0, 0, 0)),  # gore 3 / 3.9 = 0.7692
    film("Quiet Harbour", 2004),
    film("A Fox's Winter", 2010, tags=("Does an animal die",)),
    film("Night & Bell", 2015, tags=("Are there ghosts",), severities=(0, 1, 0, 0, 3)),
    film("Café Lune", 2020, severities=(1, 1, 1, 1, 1)),
)


def listed(*entries):
    """A closed solution block that lists (title, year) pairs."""
    return "<solution>\n" + "".join(f"{t} ({y})\n" for t, y in entries) + "</solution>"


def answer(text):
    """A completion whose tokens are single characters, then a stop token."""
    spans = [(i, i + 1) for i in range(len(text))] + [(len(text), len(text))]
    return Completion(
        text=text, token_ids=tuple(range(len(spans))), spans=tuple(spans), finished=True
    )


def record(*liked, constraints=None, seen=(), **fields):
    return {
        "sample_id": "s0",
        "prompt": [{"role": "user", "content": "what next?"}],
        "groundtruth_with_release_year": [[title, str(year)] for title, year in liked],
        "seen_titles": list(seen),
        "constraints": {GORE: True} if constraints is None else constraints,
        **fields,
    }
