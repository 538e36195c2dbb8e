"""The arms of the comparison: from which policy, toward which rewards, by which estimator.

All stand on one base policy that can read and knows titles, as the paper's stand on a pretrained
language model. The first three are the baselines of SafeCRS (arXiv 2603.03536): imitation of the
raw teacher, relevance alone on top of it, and Safe-SFT. The others start from Safe-SFT: rewards
summed before normalisation (GRPO), and decoupled (GDPO, arXiv 2601.05242) without and with the
count reward.
"""

import dataclasses
import functools
from collections.abc import Callable, Container, Mapping

from experiments.saferec.lists.parsing import parse_recommendations, rank_segments
from experiments.saferec.oracle.catalogue import Oracle
from experiments.saferec.oracle.conventions import FIXED
from experiments.saferec.oracle.titles import FilmKey
from experiments.saferec.published.official import length_shaping, published_ranks
from experiments.saferec.rewards import (
    Count,
    Relevance,
    Safety,
    official_item,
    official_sequence,
)
from experiments.saferec.settings import Preset
from gdpo_jax.advantages import AdvantageTransform, gdpo, grpo
from gdpo_jax.errors import UserError
from gdpo_jax.rollouts import Completion, RewardFunction


@dataclasses.dataclass(frozen=True)
class Arm:
    """One column of the comparison; `start` is None for supervised arms."""

    name: str  # folder and option
    title: str  # in tables
    start: str | None  # the arm whose parameters this one starts from
    rewards: tuple[str, ...] = ()
    estimator: str = ""  # "gdpo" or "grpo"
    all_groundtruth: bool = False  # liked films count even where they hurt the user

    @property
    def supervised(self) -> bool:
        """Does it imitate targets instead of following rewards?"""
        return not self.rewards


BASE = Arm("base", "base policy", None)
ARMS = (
    Arm("sft", "SFT without safety", "base"),
    Arm("relevance-rl", "relevance-only RL", "sft", ("relevance",), "gdpo", all_groundtruth=True),
    Arm("safe-sft", "Safe-SFT", "base"),
    Arm("safe-grpo", "Safe-GRPO", "safe-sft", ("relevance", "safety", "count"), "grpo"),
    Arm("safe-gdpo-no-count", "Safe-GDPO, no count", "safe-sft", ("relevance", "safety"), "gdpo"),
    Arm("safe-gdpo", "Safe-GDPO", "safe-sft", ("relevance", "safety", "count"), "gdpo"),
)
ARM_NAMES = tuple(arm.name for arm in ARMS)


def arm_named(name: str) -> Arm:
    """The arm of that name. Raises UserError with the legal names."""
    for arm in (BASE, *ARMS):
        if arm.name == name:
            return arm
    raise UserError(f"unknown arm {name!r}; legal: {', '.join(ARM_NAMES)}")


def reward_functions(
    arm: Arm, preset: Preset, oracle: Oracle, titles: Container[FilmKey] | None = None
) -> tuple[RewardFunction, ...]:
    """The arm's rewards at the preset's level; a title outside the catalogue counts as unsafe.

    Ranks without a film vote with zero, as in the authors' per-rank runs: a short list then
    competes with a long one at the ranks it leaves empty. Presets with official rewards have those
    of the published code instead, in which unknown titles are safe; per rank, films outside
    `titles` are no hits there.
    """
    if preset.official is not None:
        options = dataclasses.asdict(preset.official)
        del options["length_shaping"]  # no reward: it is added to the advantages
        build = official_sequence
        if preset.level == "rank":
            build = functools.partial(official_item, catalogue=titles)
        return tuple(
            function for function in build(oracle, **options) if function.name in arm.rewards
        )
    per_rank = preset.level == "rank"
    shared = {"num_ranks": preset.num_ranks, "mask_empty": False}
    cautious = FIXED.with_unknown("unsafe")
    known: dict[str, RewardFunction] = {
        "relevance": Relevance(form="hit" if per_rank else "dcg", **shared),
        "safety": Safety(oracle=oracle, per_rank=per_rank, convention=cautious, **shared),
        "count": Count(target=preset.list_length, per_rank=per_rank, each=per_rank, **shared),
    }
    return tuple(known[name] for name in arm.rewards)


def advantage_transform(arm: Arm, preset: Preset) -> AdvantageTransform:
    """The arm's estimator with the preset's weights."""
    official = preset.official
    weights = {
        name: getattr(preset, f"{name}_weight")
        for name in arm.rewards
        if name != "count" or official is None or official.lambda_count > 0
    }
    if arm.estimator == "grpo":
        return grpo(weights)
    return gdpo(weights, convention=preset.convention.z_scores)


def token_ranks(preset: Preset) -> Callable[[Completion, Mapping], list[int] | None] | None:
    """The rank of every token at the preset's level: of its film, or of its line as published."""
    if preset.level != "rank":
        return None
    if preset.official is None:
        return rank_of_tokens(preset.num_ranks)
    return lambda completion, record: published_ranks(completion, preset.num_ranks)


def token_shaping(preset: Preset) -> Callable[[Completion, Mapping], list[float]] | None:
    """What the published per-rank runs add to the advantages of tokens, where a preset asks."""
    official = preset.official
    if preset.level != "rank" or official is None or official.length_shaping == 0:
        return None
    return lambda completion, record: length_shaping(
        completion, preset.num_ranks, coefficient=official.length_shaping
    )


def rank_of_tokens(num_ranks: int) -> Callable[[Completion, Mapping], list[int] | None]:
    """The rank of every token of a list.

    What closes a list stands at the first rank it leaves empty, so that the choice between one more
    film and the end gets the credit of that rank.
    """

    def segment(completion: Completion, record: Mapping) -> list[int] | None:
        del record
        items = parse_recommendations(completion.text)
        if not items:
            return None
        ranks = rank_segments(items, completion.spans, num_ranks)
        closing = len(items) if len(items) < num_ranks else -1
        return [
            closing if start >= items[-1].end else rank
            for rank, (start, _) in zip(ranks, completion.spans, strict=True)
        ]

    return segment


__all__ = [
    "ARMS",
    "ARM_NAMES",
    "BASE",
    "Arm",
    "advantage_transform",
    "arm_named",
    "rank_of_tokens",
    "reward_functions",
    "token_ranks",
    "token_shaping",
]
