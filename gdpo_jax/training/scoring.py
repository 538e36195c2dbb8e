"""A rollout on the host: texts, their rewards, the rank of every token, and what a report keeps."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gdpo_jax.advantages import RewardBatch
from gdpo_jax.rollouts.rewards import (
    Completion,
    RewardError,
    RewardFunction,
    decode_completions,
    score,
)
from gdpo_jax.training.mesh import to_local

Segment = Callable[[Completion, Any], Sequence[int] | None]


@dataclasses.dataclass(frozen=True)
class StepSample:
    """What this process sampled in one step, for a browser of samples.

    `records` has one entry per prompt, `completions` G per prompt in the same order. `rewards` and
    `advantages` are NumPy, `[B, G, K(, R)]` and `[B, G(, R)]`. `metrics` is the row of the step.
    """

    step: int
    records: Sequence[Any]
    completions: Sequence[Completion]
    rewards: RewardBatch
    advantages: np.ndarray
    metrics: Mapping[str, float]


def score_rollout(
    sampled: Mapping[str, np.ndarray],
    batch: Sequence[Any],
    tokenizer: Any,
    reward_functions: Sequence[RewardFunction],
    segment: Segment | None,
    num_ranks: int | None,
) -> tuple[list[Completion], RewardBatch, np.ndarray | None]:
    """This process's completions as text, their rewards, and the rank of every token."""
    prompts, samples, length = sampled["ids"].shape
    completions = decode_completions(
        tokenizer,
        sampled["ids"].reshape(-1, length),
        sampled["mask"].reshape(-1, length),
        sampled["finished"].reshape(-1),
    )
    records = [record for record in batch for _ in range(samples)]
    rewards = score(
        reward_functions,
        completions,
        records,
        num_prompts=prompts,
        num_samples=samples,
        num_ranks=num_ranks,
    )
    if segment is None:
        return completions, rewards, None
    segment_ids = np.full((prompts * samples, length), -1, np.int32)
    for index, (completion, record) in enumerate(zip(completions, records)):
        ranks = segment(completion, record)
        if ranks is None:
            continue
        if len(ranks) != len(completion.token_ids):
            raise RewardError(
                f"segment gave {len(ranks)} ranks for the {len(completion.token_ids)} tokens of "
                f"sample {index}, whose text is {completion.text!r}; it must give one per token, "
                "-1 for none"
            )
        segment_ids[index, : len(ranks)] = ranks
    return completions, rewards, segment_ids.reshape(prompts, samples, length)


def sample_reporter(
    on_step: Callable[[StepSample], None],
    step: int,
    batch: Sequence[Any],
    completions: Sequence[Completion],
    rewards: RewardBatch,
    advantages: Any,
) -> Callable[[Mapping[str, float]], None]:
    def report(metrics: Mapping[str, float]) -> None:
        values = to_local(advantages.values)
        on_step(StepSample(step, batch, completions, rewards, values, metrics))

    return report
