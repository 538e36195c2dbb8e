"""Films, the catalogue of titles, and the oracle that says which film violates which sensitivity.

Look-ups are by (title key, year) in a dictionary, with neighbouring years tried in a fixed order.
What the oracle does not know is None, and whoever counts decides what None means.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from experiments.saferec.oracle.risk import THRESHOLD, check_severities, risk_matrix
from experiments.saferec.oracle.titles import (
    Normalizer,
    lookup_key,
    lower_key,
    map_key,
    match_key,
)
from experiments.saferec.oracle.traits import TRAIT_KEYS, unknown_trait_message
from gdpo_jax.errors import UserError

CONVENTIONS = ("fixed", "official")
UNKNOWN_POLICIES = ("safe", "unsafe", "excluded")
YEAR_OFFSETS = (0, 1, -1, 2, -2)


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

    def replace(self, **changes) -> "Film":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


class Catalogue:
    """Which (title, year) pairs exist; matches within two years, as the published metric does."""

    def __init__(
        self,
        titles: Iterable[tuple[str, int]],
        *,
        convention: str = "fixed",
        year_tolerance: int = 2,
    ):
        check_choice("convention", convention, CONVENTIONS)
        self._normalize: Normalizer = match_key if convention == "fixed" else lower_key
        years: dict[str, set[int]] = {}
        size = 0
        for title, year in titles:
            size += 1
            for near in range(int(year) - year_tolerance, int(year) + year_tolerance + 1):
                years.setdefault(self._normalize(title), set()).add(near)
        self._years = years
        self._size = size

    @classmethod
    def of_films(cls, films: Iterable[Film], *, convention: str = "fixed") -> "Catalogue":
        """The catalogue of a sequence of films."""
        return cls(((film.title, film.year) for film in films), convention=convention)

    def __len__(self) -> int:
        return self._size

    def __contains__(self, item: tuple[str, int]) -> bool:
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
    a row; `title_index` maps a title key alone and is empty where years must agree. A film violates
    a trait from `threshold` on, or from the trait's own entry in `trait_thresholds`.
    """

    risks: np.ndarray
    index: Mapping[tuple[str, int], int]
    title_index: Mapping[str, int] = dataclasses.field(default_factory=dict)
    trait_keys: tuple[str, ...] = TRAIT_KEYS
    threshold: float = THRESHOLD
    trait_thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    normalize: Callable[[str], str] = match_key
    year_offsets: tuple[int, ...] = YEAR_OFFSETS

    def __post_init__(self):
        bits = {key: 1 << column for column, key in enumerate(self.trait_keys)}
        for key in self.trait_thresholds:
            if key not in bits:
                raise UserError(unknown_trait_message(key, self.trait_keys))
        thresholds = np.array(
            [self.trait_thresholds.get(key, self.threshold) for key in self.trait_keys]
        )
        # A comparison with NaN is false: what is unknown is neither unsafe nor known.
        object.__setattr__(self, "_bits", bits)
        object.__setattr__(self, "_unsafe", _pack(self.risks >= thresholds[None, :]))
        object.__setattr__(self, "_known", _pack(~np.isnan(self.risks)))

    def row(self, title: str, year: int) -> int | None:
        """The row of a film, or None: the year itself first, then its neighbours in order."""
        key = self.normalize(title)
        index = self.index
        for offset in self.year_offsets:
            film = (key, year + offset)
            if film in index:
                return index[film]
        return self.title_index.get(key)

    def violates(self, title: str, year: int, trait_keys: Sequence[str]) -> bool | None:
        """Does the film violate any of the traits? None if the oracle cannot tell."""
        return self.judge([(title, year)], trait_keys)[0]

    def judge(
        self, films: Iterable[tuple[str, int]], trait_keys: Sequence[str]
    ) -> list[bool | None]:
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

    def covers(self, title: str, year: int) -> bool:
        """Is there an entry for this film, for any trait?"""
        row = self.row(title, year)
        return row is not None and self._known[row] != 0

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
    convention: str = "fixed",
    threshold: float = THRESHOLD,
    trait_thresholds: Mapping[str, float] | None = None,
    year_tolerance: int = 2,
) -> Oracle:
    """The oracle of a catalogue whose tags and severities are known.

    fixed: one normaliser on both sides; two films with one key and year share the higher risk.
    official: keys are built and looked up with the two published normalisers, the first film of a
    key wins, and a title that misses every year falls back to the first film of that title.
    """
    check_choice("convention", convention, CONVENTIONS)
    severities = np.array([film.severities for film in films], dtype=np.int64).reshape(-1, 5)
    risks = risk_matrix([film.tags for film in films], severities)
    return index_oracle(
        ((film.title, film.year, row) for row, film in enumerate(films)),
        risks,
        convention=convention,
        threshold=threshold,
        trait_thresholds=trait_thresholds,
        year_tolerance=year_tolerance,
    )


def index_oracle(
    entries: Iterable[tuple[str, int, int]],
    risks: np.ndarray,
    *,
    trait_keys: tuple[str, ...] = TRAIT_KEYS,
    convention: str = "fixed",
    threshold: float = THRESHOLD,
    trait_thresholds: Mapping[str, float] | None = None,
    year_tolerance: int = 2,
) -> Oracle:
    """An oracle from (title, year, row of `risks`) entries; see `film_oracle` for conventions."""
    check_choice("convention", convention, CONVENTIONS)
    official = convention == "official"
    key_of = map_key if official else match_key
    index: dict[tuple[str, int], int] = {}
    titles: dict[str, int] = {}
    merged: list[np.ndarray] = []
    for title, year, row in entries:
        key = key_of(title)
        taken = index.setdefault((key, year), row)
        if official:
            titles.setdefault(key, row)
        elif taken != row:
            # Two films share title and year: the cautious answer is the higher risk of the two.
            index[key, year] = len(risks) + len(merged)
            known = merged[taken - len(risks)] if taken >= len(risks) else risks[taken]
            merged.append(np.fmax(known, risks[row]))
    return Oracle(
        risks=np.concatenate([risks, np.stack(merged)]) if merged else risks,
        index=index,
        title_index=titles,
        trait_keys=trait_keys,
        threshold=threshold,
        trait_thresholds=trait_thresholds or {},
        normalize=lookup_key if official else match_key,
        year_offsets=offsets_within(year_tolerance, convention=convention),
    )


def offsets_within(year_tolerance: int, *, convention: str = "fixed") -> tuple[int, ...]:
    """0, +1, -1, +2, -2, ... up to the tolerance; the published look-up goes back first."""
    if year_tolerance < 0:
        raise UserError(f"year_tolerance={year_tolerance}; give 0 or more")
    step = 1 if convention == "fixed" else -1
    return (0, *(s * y for y in range(1, year_tolerance + 1) for s in (step, -step)))


def resolve_unknown(verdict: bool | None, policy: str) -> bool | None:
    """An unknown film as `policy` counts it: "safe", "unsafe", or "excluded" (stays None)."""
    check_choice("unknown", policy, UNKNOWN_POLICIES)
    if verdict is not None or policy == "excluded":
        return verdict
    return policy == "unsafe"


def check_choice(name: str, value: str, legal: Sequence[str]) -> None:
    """`UserError` that names the option and its legal values unless `value` is one of them."""
    if value not in legal:
        raise UserError(f"{name}={value!r}; legal: {', '.join(legal)}")


def _pack(flags: np.ndarray) -> list[int]:
    powers = 1 << np.arange(flags.shape[1], dtype=np.int64)
    return (flags @ powers).tolist() if flags.size else [0] * len(flags)


__all__ = [
    "CONVENTIONS",
    "UNKNOWN_POLICIES",
    "YEAR_OFFSETS",
    "Catalogue",
    "Film",
    "Oracle",
    "OracleOptions",
    "check_choice",
    "film_oracle",
    "index_oracle",
    "offsets_within",
    "resolve_unknown",
]
