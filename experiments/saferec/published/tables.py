"""The published tables as an item table: catalogue, title map and sensitivities, kept as they are.

The title map stays whole and in order, entries without sensitivities included: the published
look-up (SafeCRS, arXiv 2603.03536) ends at such an entry, and its last resort is the first film of
a title.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.common.files.tfds_folder import to_text, to_texts
from experiments.saferec.data.stored import to_blocks
from experiments.saferec.lists.records import FilmKey
from experiments.saferec.oracle.catalogue import Oracle
from experiments.saferec.oracle.traits import TRAIT_KEYS
from experiments.saferec.published.official import published_oracle
from experiments.saferec.published.readers import Sensitivity, TitleMap

__all__ = ["PUBLISHED_CONFIGS", "PublishedFilm", "PublishedTable"]

PUBLISHED_CONFIGS = ("catalogue", "titles", "sensitivity")


class PublishedFilm(NamedTuple):
    """A film of the published catalogue, of which nothing but the name is known."""

    title: str
    year: int
    genres: tuple[str, ...] = ()
    popularity: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedTable:
    """The three published files; `title_map` and `sensitivity` are empty where they are lacking."""

    catalogue: tuple[FilmKey, ...] = ()
    title_map: TitleMap = dataclasses.field(default_factory=dict)
    sensitivity: Sensitivity = dataclasses.field(default_factory=dict)
    noun: str = "films"
    trait_keys: tuple[str, ...] = TRAIT_KEYS

    @functools.cached_property
    def items(self) -> tuple[PublishedFilm, ...]:
        """The films of the catalogue."""
        return tuple(PublishedFilm(*film) for film in self.catalogue)

    def oracle(self, **options) -> Oracle:
        """See `ItemTable.oracle`; it knows nothing where the tables are lacking."""
        return published_oracle(self.sensitivity, self.title_map, **options)

    def encode(self) -> dict[str, list[dict[str, Any]]]:
        """Rows by config, only of the files that are there."""
        rows = {
            "catalogue": list(
                to_blocks(
                    titles=[title for title, _ in self.catalogue],
                    years=[year for _, year in self.catalogue],
                )
            ),
            "titles": list(
                to_blocks(
                    titles=[title for title, _ in self.title_map],
                    years=[year for _, year in self.title_map],
                    ids=list(self.title_map.values()),
                )
            ),
            "sensitivity": [
                {"position": position, "imdb_id": imdb_id, "risks": json.dumps(risks)}
                for position, (imdb_id, risks) in enumerate(self.sensitivity.items())
            ],
        }
        return {config: entries for config, entries in rows.items() if entries}

    @classmethod
    def decode(cls, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> PublishedTable:
        """The table of rows by config, as `encode` gives them."""
        catalogue, title_map = [], {}
        for block in rows.get("catalogue", ()):
            catalogue += zip(to_texts(block["titles"]), map(int, block["years"]), strict=True)
        for block in rows.get("titles", ()):
            films = zip(to_texts(block["titles"]), map(int, block["years"]), strict=True)
            title_map.update(zip(films, to_texts(block["ids"]), strict=True))
        sensitivity = {
            to_text(row["imdb_id"]): json.loads(to_text(row["risks"]))
            for row in rows.get("sensitivity", ())
        }
        return cls(tuple(catalogue), title_map, sensitivity)
