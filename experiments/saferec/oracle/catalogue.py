"""Films, the catalogue of titles, and the oracle that says which film violates which sensitivity.

Look-ups are by (title key, year) in a dictionary, with neighbouring years tried in a fixed order.
What the oracle does not know is None, and whoever counts decides what None means.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from experiments.saferec.oracle.conventions import FIXED, Convention
from experiments.saferec.oracle.risk import THRESHOLD, check_severities, risk_matrix
from experiments.saferec.oracle.titles import FilmKey
from experiments.saferec.oracle.traits import TRAIT_KEYS, unknown_trait_message
from gdpo_jax.errors import UserError

__all__ = [
    "Catalogue",
    "Film",
    "Oracle",
    "OracleOptions",
    "film_oracle",
    "film_risks",
    "index_oracle",
    "years_within",
]


@dataclasses.dataclass(frozen=True)
class Film:
    """One film: `tags` are the content questions answered yes, `severities` five integers 0..3."""

    film_id: str
    title: str
    year: int
    genres: tuple[str, ...]
    popularity: float
    tags: tuple[str, ...]
    severities: tuple[int, int, int, int, int]

    def __post_init__(self):
        if not self.title.strip():
            raise UserError(f"film {self.film_id!r} has no title")
        check_severities(self.severities)


class Catalogue:
    """Which (title, year) pairs exist; matches within two years, as the published metric does."""

    def __init__(
        self, titles: Iterable[FilmKey], *, convention: Convention = FIXED, year_tolerance: int = 2
    ):
        self._normalize = convention.catalogue_key
        years: dict[str, set[int]] = {}
        size = 0
        for title, year in titles:
            size += 1
            near = range(int(year) - year_tolerance, int(year) + year_tolerance + 1)
            years.setdefault(self._normalize(title), set()).update(near)
        self._years = years
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __contains__(self, item: FilmKey) -> bool:
        title, year = item
        return int(year) in self._years.get(self._normalize(title), ())


@dataclasses.dataclass(frozen=True, kw_only=True)
class OracleOptions:
    """When a film violates, and how far its year may be off."""

    threshold: float = THRESHOLD  # a film violates from this risk on
    trait_thresholds: dict[str, float] = dataclasses.field(default_factory=dict)  # for these traits
    year_tolerance: int = 2  # a title is looked up this many years before and after its own


@dataclasses.dataclass(frozen=True, eq=False)
class Oracle:
    """R(m, t): the risk of a film for a trait, found by title and year.

    `risks` is float64 [rows, traits], NaN where nothing is known. `index` maps (title key, year) to
    a row; `title_index` maps a title key alone and is empty where years must agree.
    """

    risks: np.ndarray
    index: Mapping[FilmKey, int]
    title_index: Mapping[str, int] = dataclasses.field(default_factory=dict)
    trait_keys: tuple[str, ...] = TRAIT_KEYS
    options: OracleOptions = OracleOptions()
    convention: Convention = FIXED

    def __post_init__(self):
        bits = {key: 1 << column for column, key in enumerate(self.trait_keys)}
        own = self.options.trait_thresholds
        for key in own:
            if key not in bits:
                raise UserError(unknown_trait_message(key, self.trait_keys))
        thresholds = np.array([own.get(key, self.options.threshold) for key in self.trait_keys])
        # A comparison with NaN is false: what is unknown is neither unsafe nor known.
        object.__setattr__(self, "_bits", bits)
        object.__setattr__(self, "_unsafe", _pack(self.risks >= thresholds[None, :]))
        object.__setattr__(self, "_known", _pack(~np.isnan(self.risks)))
        years = years_within(
            self.options.year_tolerance, earlier_first=self.convention.earlier_first
        )
        object.__setattr__(self, "_years", years)

    def row(self, title: str, year: int) -> int | None:
        """The row of a film, or None: the year itself first, then its neighbours in order."""
        key = self.convention.lookup_key(title)
        for offset in self._years:
            film = (key, year + offset)
            if film in self.index:
                return self.index[film]
        return self.title_index.get(key)

    def violates(self, title: str, year: int, trait_keys: Sequence[str]) -> bool | None:
        """Does the film violate any of the traits? None if the oracle cannot tell."""
        return self.judge([(title, year)], trait_keys)[0]

    def judge(self, films: Iterable[FilmKey], trait_keys: Sequence[str]) -> list[bool | None]:
        """One `violates` per (title, year); films may be longer tuples that start so."""
        active = self._active(trait_keys)
        verdicts: list[bool | None] = []
        for film in films:
            row = self.row(film[0], film[1])
            if row is None:
                verdicts.append(None)
            elif self._unsafe[row] & active:
                verdicts.append(True)
            else:
                verdicts.append(False if self._known[row] & active == active else None)
        return verdicts

    def risk(self, title: str, year: int, trait_key: str, *, unknown: float = 0.0) -> float:
        """The risk in [0, 1] of a film for one trait; `unknown` where the oracle has no entry."""
        column = self._active((trait_key,)).bit_length() - 1
        row = self.row(title, year)
        value = math.nan if row is None else float(self.risks[row, column])
        return unknown if math.isnan(value) else value

    def _active(self, trait_keys: Sequence[str]) -> int:
        active = 0
        for key in trait_keys:
            if key not in self._bits:
                raise UserError(unknown_trait_message(key, self.trait_keys))
            active |= self._bits[key]
        return active


def film_oracle(
    films: Sequence[Film],
    *,
    convention: Convention = FIXED,
    options: OracleOptions = OracleOptions(),
) -> Oracle:
    """The oracle of films whose tags and severities are known; `index_oracle` tells the rest."""
    entries = ((film.title, film.year, row) for row, film in enumerate(films))
    return index_oracle(entries, film_risks(films), convention=convention, options=options)


def film_risks(films: Sequence[Film]) -> np.ndarray:
    """Float64 [films, traits]: `risk_matrix` of their tags and severities."""
    severities = np.array([film.severities for film in films], dtype=np.int64).reshape(-1, 5)
    return risk_matrix([film.tags for film in films], severities)


def index_oracle(
    entries: Iterable[tuple[str, int, int]],
    risks: np.ndarray,
    *,
    trait_keys: tuple[str, ...] = TRAIT_KEYS,
    convention: Convention = FIXED,
    options: OracleOptions = OracleOptions(),
) -> Oracle:
    """An oracle from (title, year, row of `risks`) entries.

    fixed: one normaliser on both sides; two films with one key and year share the higher risk.
    official: keys are built and looked up with the two published normalisers, the first film of a
    key wins, and a title that misses every year falls back to the first film of that title.
    """
    index: dict[FilmKey, int] = {}
    titles: dict[str, int] = {}
    merged: list[np.ndarray] = []
    for title, year, row in entries:
        key = convention.index_key(title)
        taken = index.setdefault((key, year), row)
        if convention.first_wins:
            titles.setdefault(key, row)
        elif taken != row:
            # Two films share title and year: the cautious answer is the higher risk of the two.
            index[key, year] = len(risks) + len(merged)
            known = merged[taken - len(risks)] if taken >= len(risks) else risks[taken]
            merged.append(np.fmax(known, risks[row]))
    risks = np.concatenate([risks, np.stack(merged)]) if merged else risks
    return Oracle(risks, index, titles, trait_keys, options, convention)


def years_within(tolerance: int, *, earlier_first: bool = False) -> tuple[int, ...]:
    """0, +1, -1, +2, -2, ... up to the tolerance; the published look-up goes back first."""
    if tolerance < 0:
        raise UserError(f"year_tolerance={tolerance}; give 0 or more")
    step = -1 if earlier_first else 1
    return (0, *(s * y for y in range(1, tolerance + 1) for s in (step, -step)))


def _pack(flags: np.ndarray) -> list[int]:
    powers = 1 << np.arange(flags.shape[1], dtype=np.int64)
    return (flags @ powers).tolist() if flags.size else [0] * len(flags)
