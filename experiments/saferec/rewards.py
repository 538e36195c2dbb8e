"""Presets of the rewards of Safe-GDPO (SafeCRS, arXiv 2603.03536); `reward_terms.py` has the terms.

    official_sequence   the release: one number an answer
    official_item       the authors' development runs: one number a rank
    fixed               ours, of either kind

The authors' third term, which asks for a number of lines, acts on token advantages and not as a
reward: `official.length_shaping`, which a preset turns on (`OfficialRewards.length_shaping`).
"""

from collections.abc import Callable, Mapping

from experiments.saferec.oracle.catalogue import Oracle, check_choice
from experiments.saferec.reward_terms import (
    RANK_RELEVANCE,
    SEQUENCE_RELEVANCE,
    Count,
    Relevance,
    Safety,
    discounts,
)
from gdpo_jax.rollouts import RewardFunction


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
    official = {"num_ranks": num_ranks, "convention": "official"}
    rewards = (
        Relevance(form="any_hit", **official),
        Safety(oracle=oracle, lambda_safe=lambda_safe, penalty=penalty, **official),
    )
    if lambda_count <= 0:
        return rewards
    return *rewards, Count(target=target, lambda_count=lambda_count, distinct=False, **official)


def official_item(
    oracle: Oracle,
    *,
    relevance: str = "hit",
    lambda_safe: float = 1.0,
    penalty: float = 1.0,
    lambda_count: float = 0.5,
    target: int = 10,
    num_ranks: int = 20,
) -> tuple[RewardFunction, ...]:
    """The rewards of the authors' development runs: one number per rank, zero at empty ranks.

    `relevance` is "hit" (their exp_inf) or "log_decay".
    """
    check_choice("relevance", relevance, RANK_RELEVANCE)
    official = {"num_ranks": num_ranks, "convention": "official", "mask_empty": False}
    per_rank = {**official, "per_rank": True}
    rewards = (
        Relevance(form=relevance, **official),
        Safety(oracle=oracle, lambda_safe=lambda_safe, penalty=penalty, **per_rank),
    )
    if lambda_count <= 0:
        return rewards
    return *rewards, Count(target=target, lambda_count=lambda_count, distinct=False, **per_rank)


def fixed(
    oracle: Oracle,
    *,
    relevance: str = "dcg",
    lambda_safe: float = 1.0,
    lambda_count: float = 1.0,
    target: int = 10,
    num_ranks: int = 20,
    unknown: str = "safe",
) -> tuple[RewardFunction, ...]:
    """Our rewards: closed blocks only, one normaliser, one target length, empty ranks masked.

    `relevance` decides whether all answer per list ("any_hit", "recall", "dcg") or per rank
    ("hit", "log_decay"). A weight of zero leaves its reward out.
    """
    first = Relevance(form=relevance, num_ranks=num_ranks)
    rewards: tuple[RewardFunction, ...] = (first,)
    if lambda_safe > 0:
        rewards += (
            Safety(
                oracle=oracle,
                lambda_safe=lambda_safe,
                per_rank=first.per_rank,
                num_ranks=num_ranks,
                unknown=unknown,
            ),
        )
    if lambda_count > 0:
        rewards += (
            Count(
                target=target,
                lambda_count=lambda_count,
                per_rank=first.per_rank,
                num_ranks=num_ranks,
            ),
        )
    return rewards


REWARD_PRESETS: Mapping[str, Callable[..., tuple[RewardFunction, ...]]] = {
    "fixed": fixed,
    "official_sequence": official_sequence,
    "official_item": official_item,
}


__all__ = [
    "RANK_RELEVANCE",
    "REWARD_PRESETS",
    "SEQUENCE_RELEVANCE",
    "Count",
    "Relevance",
    "Safety",
    "discounts",
    "fixed",
    "official_item",
    "official_sequence",
]
