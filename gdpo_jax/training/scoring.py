"""A rollout on the host: texts, their rewards, the rank of every token, and what a report keeps."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gdpo_jax.advantages import RewardBatch
from gdpo_jax.rollouts import (
    Completion,
    RewardError,
    RewardFunction,
    decode_completions,
    score,
)
from gdpo_jax.training.mesh import to_local

Segment = Callable[[Completion, Any], Sequence[int] | None]
Shaping = Callable[[Completion, Any], Sequence[float] | None]


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
    shaping: Shaping | None = None,
    *,
    timeout: float | None = None,
) -> tuple[list[Completion], RewardBatch, np.ndarray | None, np.ndarray | None]:
    """This process's completions as text, their rewards, and of every token `[B, G, C]` the rank
    and what is added to its advantage.
    """
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
        timeout=timeout,
    )

    def of_tokens(function: Segment | Shaping | None, name: str, fill: float, dtype: type):
        if function is None:
            return None
        values = np.full((prompts * samples, length), fill, dtype)
        for index, (completion, record) in enumerate(zip(completions, records)):
            given = function(completion, record)
            if given is None:
                continue
            if len(given) != len(completion.token_ids):
                raise RewardError(
                    f"{name} gave {len(given)} values for the {len(completion.token_ids)} tokens "
                    f"of sample {index}, whose text is {completion.text!r}; it must give one per "
                    f"token, {fill:g} for none"
                )
            values[index, : len(given)] = given
        return values.reshape(prompts, samples, length)

    segment_ids = of_tokens(segment, "segment", -1, np.int32)
    return completions, rewards, segment_ids, of_tokens(shaping, "shaping", 0.0, np.float32)


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
