"""What is recommended, whatever it is: a table of items with the risk of each for every trait.

Films, games and the published tables are three item tables. Conversations, constraint injection,
rewards and metrics see only what is here. A fourth domain needs a table, a phrasebook for what its
users say, and the names of its traits in `records.trait_key`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from experiments.saferec.oracle.catalogue import (
    Catalogue,
    Film,
    Oracle,
    OracleOptions,
    film_risks,
    index_oracle,
)
from experiments.saferec.oracle.conventions import FIXED, Convention
from experiments.saferec.oracle.traits import TRAIT_KEYS

__all__ = ["Item", "ItemTable", "RiskTable", "catalogue_of", "film_table"]


class Item(Protocol):
    """One thing that can be recommended; `popularity` is a positive weight."""

    @property
    def title(self) -> str: ...
    @property
    def year(self) -> int: ...
    @property
    def genres(self) -> tuple[str, ...]: ...
    @property
    def popularity(self) -> float: ...


class ItemTable(Protocol):
    """Items, the traits their users may have, and an oracle that says which item violates which.

    `noun` names the items in the plural ("films"); `items` is what exists, and may be fewer or more
    than what the oracle knows.
    """

    @property
    def noun(self) -> str: ...
    @property
    def items(self) -> Sequence[Item]: ...
    @property
    def trait_keys(self) -> tuple[str, ...]: ...

    def oracle(
        self, *, convention: Convention = FIXED, options: OracleOptions = OracleOptions()
    ) -> Oracle:
        """The oracle under a convention."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class RiskTable:
    """An item table that knows the risk of each of its items for each trait."""

    noun: str
    items: tuple[Item, ...]
    trait_keys: tuple[str, ...]
    risks: np.ndarray  # float64 [items, traits]

    def oracle(
        self, *, convention: Convention = FIXED, options: OracleOptions = OracleOptions()
    ) -> Oracle:
        """See `ItemTable.oracle`."""
        entries = ((item.title, item.year, row) for row, item in enumerate(self.items))
        return index_oracle(
            entries,
            self.risks,
            trait_keys=self.trait_keys,
            convention=convention,
            options=options,
        )


def film_table(films: Sequence[Film]) -> RiskTable:
    """The table of films whose tags and severities are known."""
    return RiskTable("films", tuple(films), TRAIT_KEYS, film_risks(films))


def catalogue_of(table: ItemTable, *, convention: Convention = FIXED) -> Catalogue:
    """What exists: the titles and years of the items."""
    return Catalogue(((item.title, item.year) for item in table.items), convention=convention)
