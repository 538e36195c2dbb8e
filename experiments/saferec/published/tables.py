"""The published tables as an item table: catalogue, title map and sensitivities, kept as they are.

The title map stays whole and in order, entries without sensitivities included: the published
look-up (SafeCRS, arXiv 2603.03536) ends at such an entry, and its last resort is the first film of
a title.
"""

import dataclasses
import functools
from typing import NamedTuple

from experiments.saferec.oracle.catalogue import Oracle, OracleOptions
from experiments.saferec.oracle.conventions import FIXED, Convention
from experiments.saferec.oracle.titles import FilmKey
from experiments.saferec.oracle.traits import TRAIT_KEYS
from experiments.saferec.published.official import published_oracle
from experiments.saferec.published.readers import Sensitivity, TitleMap

__all__ = ["PublishedFilm", "PublishedTable"]


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

    def oracle(
        self, *, convention: Convention = FIXED, options: OracleOptions = OracleOptions()
    ) -> Oracle:
        """See `ItemTable.oracle`; it knows nothing where the tables are lacking."""
        return published_oracle(
            self.sensitivity, self.title_map, convention=convention, options=options
        )
