"""The arms of the comparison: from which policy, toward which rewards, by which estimator.

All stand on one base policy that can read and knows titles, as the paper's stand on a pretrained
language model. The first three are the baselines of SafeCRS (arXiv 2603.03536): imitation of the
raw teacher, relevance alone on top of it, and Safe-SFT. The others start from Safe-SFT: rewards
summed before normalisation (GRPO), and decoupled (GDPO, arXiv 2601.05242) without and with the
count reward.
"""

import dataclasses
import functools
from collections.abc import Callable, Container, Mapping, Sequence

from experiments.common.embedded.policies import tokenizer_of
from experiments.common.runs.arms import Arm
from experiments.common.runs.experiment import Data
from experiments.common.runs.stages import Imitate, Optimize, Rewards
from experiments.saferec.data.corpus import with_all_groundtruth
from experiments.saferec.data.targets import base_examples, plain_target, safe_target
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
from experiments.saferec.settings import SafeRecPreset
from gdpo_jax.policies import Tokenizer
from gdpo_jax.rollouts import Completion, RewardFunction

Record = Mapping
_RESERVED = ("<reasoning>", "</reasoning>", "<solution>", "</solution>")
_ALL = ("relevance", "safety", "count")

ARMS = (
    Arm(
        name="base",
        title="base policy",
        stage=Imitate(settings="base", examples="reading"),
        base=True,
    ),
    Arm(
        name="sft",
        title="SFT without safety",
        start="base",
        stage=Imitate(settings="sft", examples="plain"),
    ),
    Arm(
        name="relevance-rl",
        title="relevance-only RL",
        start="sft",
        stage=Optimize(rewards=("relevance",), estimator="gdpo", examples="policy, all liked"),
    ),
    Arm(
        name="safe-sft",
        title="Safe-SFT",
        start="base",
        stage=Imitate(settings="safe-sft", examples="safe"),
    ),
    Arm(
        name="safe-grpo",
        title="Safe-GRPO",
        start="safe-sft",
        stage=Optimize(rewards=_ALL, estimator="grpo"),
    ),
    Arm(
        name="safe-gdpo-no-count",
        title="Safe-GDPO, no count",
        start="safe-sft",
        stage=Optimize(rewards=("relevance", "safety"), estimator="gdpo"),
    ),
    Arm(
        name="safe-gdpo",
        title="Safe-GDPO",
        start="safe-sft",
        stage=Optimize(rewards=_ALL, estimator="gdpo"),
    ),
)


def reading_examples(data: Data, preset: SafeRecPreset) -> list[Record]:
    """From which a new policy learns to read and to know films."""
    del preset
    corpus = data.source
    pairs = base_examples(data.records["train"], corpus.items, corpus.oracle)
    return [{"prompt": prompt, "completion": text} for prompt, text in pairs]


def plain_examples(data: Data, preset: SafeRecPreset) -> list[Record]:
    """The teacher's lists. Of the published sets they are known without what violates alone."""
    return [
        {
            "prompt": record["prompt"],
            "completion": plain_target(record, list_length=preset.list_length),
        }
        for record in data.records["train"]
    ]


def safe_examples(data: Data, preset: SafeRecPreset) -> list[Record]:
    """The teacher's lists without what hurts the user, behind the reasons."""
    options = {"list_length": preset.list_length, "shown": preset.risks_shown}
    return [
        {
            "prompt": record["prompt"],
            "completion": safe_target(record, data.source.oracle, **options),
        }
        for record in data.records["train"]
    ]


def policy_records(data: Data, preset: SafeRecPreset) -> Sequence[Record]:
    """The conversations that reinforcement learning answers."""
    del preset
    return data.records["policy"]


def all_liked(data: Data, preset: SafeRecPreset) -> list[Record]:
    """The same, where liked films count even if they hurt the user."""
    return [with_all_groundtruth(record) for record in policy_records(data, preset)]


EXAMPLES = {
    "reading": reading_examples,
    "plain": plain_examples,
    "safe": safe_examples,
    "policy": policy_records,
    "policy, all liked": all_liked,
}


def tokenizer(data: Data, preset: SafeRecPreset) -> Tokenizer:
    """Of a new policy: the training conversations and their safe targets."""
    titles = () if not preset.whole_titles else sorted(map(_title, data.source.titles or ()))
    return tokenizer_of(
        safe_examples(data, preset),
        vocab_size=preset.vocab_size,
        reserved=(*_RESERVED, *titles),
    )


def _title(key: FilmKey) -> str:
    title, year = key
    return f"{title} ({year})"


def rewards(arm: Arm, data: Data, preset: SafeRecPreset) -> Rewards:
    """The rewards of an arm that follows some, and where their credit goes."""
    corpus, ranks = data.source, preset.num_ranks if preset.level == "rank" else None
    decoupled = arm.stage.estimator == "gdpo"
    return Rewards(
        functions=reward_functions(arm.stage.rewards, preset, corpus.oracle, corpus.titles),
        estimator={"convention": preset.convention.z_scores} if decoupled else {},
        credit={
            "segment": token_ranks(preset),
            "num_ranks": ranks,
            "shaping": token_shaping(preset),
        },
    )


def reward_functions(
    names: Sequence[str],
    preset: SafeRecPreset,
    oracle: Oracle,
    titles: Container[FilmKey] | None = None,
) -> tuple[RewardFunction, ...]:
    """The rewards of these names at the preset's level; a title outside the catalogue is unsafe.

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
        return tuple(function for function in build(oracle, **options) if function.name in names)
    per_rank = preset.level == "rank"
    shared = {"num_ranks": preset.num_ranks, "mask_empty": False}
    cautious = FIXED.with_unknown("unsafe")
    known: dict[str, RewardFunction] = {
        "relevance": Relevance(form="hit" if per_rank else "dcg", **shared),
        "safety": Safety(oracle=oracle, per_rank=per_rank, convention=cautious, **shared),
        "count": Count(target=preset.list_length, per_rank=per_rank, each=per_rank, **shared),
    }
    return tuple(known[name] for name in names)


def token_ranks(preset: SafeRecPreset) -> Callable[[Completion, Mapping], list[int] | None] | None:
    """The rank of every token at the preset's level: of its film, or of its line as published."""
    if preset.level != "rank":
        return None
    if preset.official is None:
        return rank_of_tokens(preset.num_ranks)
    return lambda completion, record: published_ranks(completion, preset.num_ranks)


def token_shaping(preset: SafeRecPreset) -> Callable[[Completion, Mapping], list[float]] | None:
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
    "EXAMPLES",
    "rank_of_tokens",
    "reward_functions",
    "rewards",
    "token_ranks",
    "token_shaping",
    "tokenizer",
]
