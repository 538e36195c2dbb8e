"""Text to reward values: the answers of reward functions become a `RewardBatch`.

A reward function sees decoded completions and the batch's records, on the process that holds them.
It answers with one number or None per sample, or with one number or None per rank of each sample.
None and NaN mean "no opinion" and become invalid entries; they never become zero.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gdpo_jax.advantages import RewardBatch, reward_batch
from gdpo_jax.rollouts.completions import Completion, decode_completions
from gdpo_jax.rollouts.reward_calls import call_rewards
from gdpo_jax.rollouts.reward_functions import (
    Record,
    RewardError,
    RewardFunction,
    check_distinct,
    named_reward,
)
from gdpo_jax.rollouts.reward_values import reward_column


def score(
    reward_functions: Sequence[RewardFunction],
    completions: Sequence[Completion],
    records: Sequence[Record],
    *,
    num_prompts: int,
    num_samples: int,
    num_ranks: int | None = None,
    timeout: float | None = None,
) -> RewardBatch:
    """Call every reward function on this process's samples and stack the answers.

    `completions` and `records` are flat, sample `b * num_samples + g` belonging to prompt `b`;
    records are repeated per sample. Values come back as NumPy, `[B, G, K]`, or `[B, G, K, R]` when
    `num_ranks` is given; there, a function that answers per sample counts at every rank. Invalid
    entries hold 0 and are marked in `valid`. Functions are called in order, and those that are
    `async def` then awaited together. timeout: seconds for each, and for the latter together.

    Raises:
        RewardError: a function has no usable name (`named_reward`), raises, has no answer in time,
            answers with a wrong length, with an infinity or with something that is no number.
    """
    functions = [named_reward(function) for function in reward_functions]
    names = tuple(function.name for function in functions)
    check_distinct(names)
    expected = num_prompts * num_samples
    if len(completions) != expected or len(records) != expected:
        raise RewardError(
            f"{len(completions)} completions and {len(records)} records do not match "
            f"{num_prompts} prompts x {num_samples} samples = {expected}"
        )
    columns = [
        reward_column(name, answers, completions, num_ranks)
        for name, answers in zip(
            names, call_rewards(functions, completions, records, timeout=timeout)
        )
    ]
    ranks = () if num_ranks is None else (num_ranks,)
    values = np.stack(columns, axis=1).reshape(num_prompts, num_samples, len(names), *ranks)
    rewards = reward_batch(values, names)
    held = np.where(rewards.valid, rewards.values, 0).astype(np.float32)
    return dataclasses.replace(rewards, values=held)


__all__ = ["Completion", "RewardError", "RewardFunction", "decode_completions", "score"]
