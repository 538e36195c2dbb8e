"""The three rewards of Safe-GDPO (SafeCRS, arXiv 2603.03536): relevance, safety and list length.

With d[k] = 1 / log2(k + 1) for ranks k = 1, 2, ..., and n the number of items in the list:

    relevance   any hit, Recall or NDCG of the list; per rank hit[k], or sum_{j>=k} hit[j] d[j]
    safety      -lambda_safe penalty d[k] for every item k that violates; summed, or per rank
    count       lambda_count if n = target, else -lambda_count |n - target| / target

An answer without a list is a format failure: relevance 0, safety 0, count -lambda_count.
Per-rank rewards give None at ranks that hold no item, so that empty ranks do not vote; the
published code gives them zeros (`mask_empty=False`).

The authors' third term, which asks for a number of lines, acts on token advantages and is no
reward: `official.length_shaping`, which a preset turns on (`OfficialRewards.length_shaping`).
"""

import dataclasses
import itertools
import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

from experiments.saferec.lists.hits import greedy_hits
from experiments.saferec.lists.parsing import Recommendation, parse_recommendations
from experiments.saferec.lists.records import active_traits, groundtruth, seen_titles
from experiments.saferec.oracle.catalogue import Oracle
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL, Convention, check_choice
from experiments.saferec.oracle.titles import FilmKey, match_key
from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import Completion, RewardFunction

__all__ = [
    "RANK_RELEVANCE",
    "SEQUENCE_RELEVANCE",
    "Count",
    "Relevance",
    "Safety",
    "discounts",
    "official_item",
    "official_sequence",
]

SEQUENCE_RELEVANCE = ("any_hit", "recall", "dcg")
RANK_RELEVANCE = ("hit", "log_decay")

_Scores = list[float | None]
Record = Mapping[str, Any]


def discounts(num_ranks: int) -> list[float]:
    """d[k] = 1 / log2(k + 1) for k = 1 .. num_ranks."""
    return [1.0 / math.log2(rank + 2) for rank in range(num_ranks)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relevance:
    """How well the list meets the user's ground truth.

    For the whole list: "any_hit", "recall", or "dcg" (NDCG against the best list of `num_ranks`).
    Per rank: "hit", or "log_decay" (the discounted hits from this rank on). With `new_only`, films
    that the conversation names already are no hits; with `catalogue`, films are none whose exact
    title and year it lacks.
    """

    form: str = "dcg"
    num_ranks: int = 20
    convention: Convention = FIXED
    mask_empty: bool = True
    new_only: bool = True
    catalogue: Container[FilmKey] | None = None
    name: str = "relevance"

    def __post_init__(self):
        check_choice("form", self.form, SEQUENCE_RELEVANCE + RANK_RELEVANCE)

    @property
    def per_rank(self) -> bool:
        """Does it answer per rank?"""
        return self.form in RANK_RELEVANCE

    def __call__(self, completions: Sequence[Completion], records: Sequence[Record]):
        return [
            self._score(completion.text, record)
            for completion, record in zip(completions, records, strict=True)
        ]

    def _score(self, text: str, record: Record) -> float | _Scores:
        items = parse_recommendations(text, convention=self.convention)[: self.num_ranks]
        liked = groundtruth(record)
        hits = self._hits(items, liked, record)
        gains = [hit * d for hit, d in zip(hits, discounts(self.num_ranks))]
        if self.form == "any_hit":
            return float(any(hits))
        if self.form == "recall":
            return sum(hits) / len(liked) if liked else 0.0
        if self.form == "dcg":
            best = sum(discounts(min(len(liked), self.num_ranks)))
            return sum(gains) / best if best else 0.0
        if self.form == "hit":
            values = [float(hit) for hit in hits]
        else:
            values = [sum(gains[rank:]) for rank in range(len(gains))]
        return _pad(values, self.num_ranks, None if self.mask_empty else 0.0)

    def _hits(self, items: list[Recommendation], liked, record: Record) -> list[int]:
        key = self.convention.metric_key
        seen = {key(title) for title in seen_titles(record)} if self.new_only else ()
        # What can be no hit keeps its rank.
        counted = [
            key(item.title) not in seen
            and (self.catalogue is None or (item.title, item.year) in self.catalogue)
            for item in items
        ]
        films = [item for item, counts in zip(items, counted) if counts]
        hits = iter(greedy_hits(films, liked, normalize=self.convention.reward_key))
        return [next(hits) if counts else 0 for counts in counted]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Safety:
    """The rank-discounted price of violating items, summed or per rank; never positive.

    Films without an oracle entry count as the convention's `unknown` says: "safe", "unsafe", or
    "excluded" (no opinion: masked per rank, left out of the sum).
    """

    oracle: Oracle
    lambda_safe: float = 1.0
    penalty: float = 1.0
    per_rank: bool = False
    num_ranks: int = 20
    convention: Convention = FIXED
    mask_empty: bool = True
    name: str = "safety"

    def __post_init__(self):
        _check_not_negative(lambda_safe=self.lambda_safe, penalty=self.penalty)

    def __call__(self, completions: Sequence[Completion], records: Sequence[Record]):
        return [
            self._score(completion.text, record)
            for completion, record in zip(completions, records, strict=True)
        ]

    def _score(self, text: str, record: Record) -> float | _Scores:
        items = parse_recommendations(text, convention=self.convention)[: self.num_ranks]
        verdicts = self.oracle.judge(items, active_traits(record))
        values: _Scores = []
        for verdict, discount in zip(verdicts, discounts(self.num_ranks)):
            violates = self.convention.resolve(verdict)
            price = -self.lambda_safe * self.penalty * discount
            values.append(None if violates is None else price if violates else 0.0)
        if self.per_rank:
            return _pad(values, self.num_ranks, None if self.mask_empty else 0.0)
        return sum(value for value in values if value is not None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count:
    """How close the list is to its target length, the one place where length is asked for.

    `distinct` counts a repeated film once, so that repeating a safe film fills no list. Per rank,
    every item carries the value; a missing list carries its -lambda_count at the first rank. With
    `each`, ranks get credit of their own instead, the sum from that rank on of lambda_count for a
    film that brings the list closer to the target, -lambda_count for one that repeats or exceeds
    it, and 0 for none: a film chosen early decides which ones can follow.
    """

    target: int = 10
    lambda_count: float = 1.0
    per_rank: bool = False
    num_ranks: int = 20
    distinct: bool = True
    each: bool = False
    convention: Convention = FIXED
    mask_empty: bool = True
    name: str = "count"

    def __post_init__(self):
        _check_not_negative(lambda_count=self.lambda_count)
        if self.target < 1:
            raise UserError(f"target={self.target}; a list has at least one item")
        if self.each and not self.per_rank:
            raise UserError("each=True gives every rank its own credit; it needs per_rank=True")

    def __call__(self, completions: Sequence[Completion], records: Sequence[Record]):
        del records
        return [self._score(completion.text) for completion in completions]

    def _score(self, text: str) -> float | _Scores:
        items = parse_recommendations(text, convention=self.convention)
        if self.distinct:
            length = len({(match_key(item.title), item.year) for item in items})
        else:
            length = len(items)
        value = self.value(length)
        if not self.per_rank:
            return value
        if self.each and items:
            return _pad(self._credits(items), self.num_ranks, None if self.mask_empty else 0.0)
        if not self.mask_empty:
            return [value] * self.num_ranks
        return _pad([value] * max(1, min(len(items), self.num_ranks)), self.num_ranks, None)

    def _credits(self, items: Sequence[Recommendation]) -> list[float]:
        seen: set[tuple[str, int]] = set()
        credits = []
        for item in items[: self.num_ranks]:
            film = (match_key(item.title), item.year)
            useful = len(seen) < self.target and not (self.distinct and film in seen)
            credits.append(self.lambda_count if useful else -self.lambda_count)
            seen.add(film)
        return list(itertools.accumulate(reversed(credits)))[::-1]

    def value(self, length: int) -> float:
        """The reward of a list of `length` items."""
        if length == self.target:
            return self.lambda_count
        return -self.lambda_count * abs(length - self.target) / self.target


def _pad(values: Sequence[float | None], num_ranks: int, empty: float | None) -> _Scores:
    return [*values, *[empty] * (num_ranks - len(values))]


def _check_not_negative(**options: float) -> None:
    for name, value in options.items():
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"{name}={value}; give a finite number that is not negative")


def official_sequence(
    oracle: Oracle,
    *,
    lambda_safe: float = 1.0,
    penalty: float = 1.0,
    lambda_count: float = 0.0,
    target: int = 10,
    num_ranks: int = 20,
) -> tuple[RewardFunction, ...]:
    """The released rewards: one number per answer; the count reward only if it has a weight."""
    official = {"num_ranks": num_ranks, "convention": OFFICIAL}
    rewards = (
        Relevance(form="any_hit", new_only=False, **official),
        Safety(oracle=oracle, lambda_safe=lambda_safe, penalty=penalty, **official),
    )
    if lambda_count <= 0:
        return rewards
    return *rewards, Count(target=target, lambda_count=lambda_count, distinct=False, **official)


def official_item(
    oracle: Oracle,
    *,
    catalogue: Container[FilmKey] | None = None,
    relevance: str = "hit",
    lambda_safe: float = 1.0,
    penalty: float = 1.0,
    lambda_count: float = 0.5,
    target: int = 10,
    num_ranks: int = 20,
) -> tuple[RewardFunction, ...]:
    """The rewards of the authors' development runs: one number per rank, zero at empty ranks.

    `relevance` is "hit" (their exp_inf) or "log_decay". Films that the conversation names count for
    nothing in it, and neither do films whose exact title and year are not in the `catalogue`;
    without one all may be hits.
    """
    check_choice("relevance", relevance, RANK_RELEVANCE)
    official = {"num_ranks": num_ranks, "convention": OFFICIAL, "mask_empty": False}
    per_rank = {**official, "per_rank": True}
    rewards = (
        Relevance(form=relevance, catalogue=catalogue, **official),
        Safety(oracle=oracle, lambda_safe=lambda_safe, penalty=penalty, **per_rank),
    )
    if lambda_count <= 0:
        return rewards
    return *rewards, Count(target=target, lambda_count=lambda_count, distinct=False, **per_rank)
