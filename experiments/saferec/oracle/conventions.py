"""Two ways to read, match and count lists: ours, and that of the published code, faults included.

A `Convention` is chosen once, on the command line or by a preset, and handed on as a record.
"""

import dataclasses
import math
from collections.abc import Sequence

from experiments.saferec.oracle.titles import (
    Normalizer,
    casefold_key,
    exact_key,
    lookup_key,
    lower_key,
    map_key,
    match_key,
)
from gdpo_jax.errors import UserError

__all__ = [
    "CONVENTIONS",
    "FIXED",
    "OFFICIAL",
    "UNKNOWN_POLICIES",
    "Convention",
    "check_choice",
    "convention_named",
]

UNKNOWN_POLICIES = ("safe", "unsafe", "excluded")


def check_choice(name: str, value: str, legal: Sequence[str]) -> None:
    """`UserError` that names the option and its legal values unless `value` is one of them."""
    if value not in legal:
        raise UserError(f"{name}={value!r}; legal: {', '.join(legal)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convention:
    """What a list is, which titles are one item, and what counts."""

    name: str  # as given on the command line and written into results
    unknown: str = "safe"  # items that the oracle does not know; "excluded" ones do not count
    closed_lists: bool  # only a closed <solution> block is a list; else any text is read
    index_key: Normalizer  # of titles in the oracle's table
    lookup_key: Normalizer  # of titles that the oracle is asked about
    catalogue_key: Normalizer  # of titles that may exist
    metric_key: Normalizer  # of titles in Recall and NDCG, and of titles seen before
    reward_key: Normalizer  # of titles in rewards
    first_wins: bool  # oracle: the first item of a key counts, and answers if all years miss
    earlier_first: bool  # oracle: of two years equally far off, which is tried first
    one_hit_each: bool  # Recall and NDCG: two liked items never hit the same one
    short_ideal: bool  # NDCG: the ideal list is no longer than the list itself
    empty: float  # metrics that an empty list leaves undefined
    z_scores: str  # how rewards are normalised: a convention of `gdpo_jax.advantages.gdpo`

    def __post_init__(self):
        check_choice("unknown", self.unknown, UNKNOWN_POLICIES)

    def resolve(self, verdict: bool | None) -> bool | None:
        """A verdict of the oracle as it counts; None stays None where unknown is "excluded"."""
        if verdict is not None or self.unknown == "excluded":
            return verdict
        return self.unknown == "unsafe"

    def with_unknown(self, unknown: str) -> "Convention":
        """The same with unknown items counted otherwise. Raises UserError for no such way."""
        return dataclasses.replace(self, unknown=unknown)


FIXED = Convention(
    name="fixed",
    closed_lists=True,
    index_key=match_key,
    lookup_key=match_key,
    catalogue_key=match_key,
    metric_key=match_key,
    reward_key=match_key,
    first_wins=False,
    earlier_first=False,
    one_hit_each=True,
    short_ideal=False,
    empty=math.nan,
    z_scores="paper",
)
OFFICIAL = Convention(
    name="official",
    closed_lists=False,
    index_key=map_key,
    lookup_key=lookup_key,
    catalogue_key=lower_key,
    metric_key=exact_key,
    reward_key=casefold_key,
    first_wins=True,
    earlier_first=True,
    one_hit_each=False,
    short_ideal=True,
    empty=0.0,
    z_scores="trl",
)
CONVENTIONS = {convention.name: convention for convention in (FIXED, OFFICIAL)}


def convention_named(name: str, *, unknown: str = "safe") -> Convention:
    """The convention of that name. Raises UserError with the legal names and ways to count."""
    check_choice("convention", name, tuple(CONVENTIONS))
    return CONVENTIONS[name].with_unknown(unknown)
