"""Rewards of a rollout to token advantages on the mesh, with the metrics of both."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.advantages import (
    Advantages,
    AdvantageTransform,
    RewardBatch,
    compute_advantages,
)
from gdpo_jax.objectives import spread_to_tokens
from gdpo_jax.rollouts import Rollout
from gdpo_jax.training.mesh import batch_sharding, replicated

AdvantageStep = Callable[..., tuple[Array, Array, Advantages, Any, dict[str, Array]]]
ReshapeRewards = Callable[[RewardBatch, Rollout], RewardBatch]
Penalty = Callable[[Rollout], Array]


@functools.lru_cache(maxsize=64)
def make_advantage_step(
    estimator: AdvantageTransform,
    *,
    mesh: Mesh,
    reshape_rewards: ReshapeRewards | None = None,
    penalty: Penalty | None = None,
) -> AdvantageStep:
    """`f(advantage_state, rewards, mask, finished, segment_ids, rollout=None)` on the mesh.

    Returns token advantages `[B, G, C]`, the tokens that learn `[B, G, C]` (`learning_tokens`), the
    advantages, the new advantage state, and the metrics of the rewards and of completion lengths.
    reshape_rewards(rewards, rollout) changes the rewards before the estimator sees them, and
    penalty(rollout) gives the `[B, G]` or `[B, G, R]` that `subtract_penalty` takes off; both see
    the whole batch and need `rollout`.
    """

    def prepare(advantage_state, rewards: RewardBatch, mask, finished, segment_ids, rollout=None):
        lengths = jnp.sum(mask, axis=-1, dtype=jnp.float32)
        if reshape_rewards is not None:
            rewards = reshape_rewards(rewards, rollout)
        advantages, advantage_state, metrics = compute_advantages(
            estimator,
            rewards,
            advantage_state,
            lengths=lengths
            if rewards.values.ndim == 3
            else _rank_lengths(mask, segment_ids, rewards.values.shape[3]),
            penalty=None if penalty is None else penalty(rollout),
        )
        tokens = spread_to_tokens(advantages.values, segment_ids, mask)
        learning = learning_tokens(advantages.valid, segment_ids, mask)
        metrics = {**metrics, **completion_metrics(lengths, finished)}
        if segment_ids is not None:
            metrics["completions/items_mean"] = jnp.mean(_count_items(mask, segment_ids))
        return tokens, learning, advantages, advantage_state, metrics

    over_batch, everywhere = batch_sharding(mesh), replicated(mesh)
    return jax.jit(
        prepare,
        in_shardings=(everywhere, *[over_batch] * 5),
        out_shardings=(over_batch, over_batch, over_batch, everywhere, everywhere),
    )


def learning_tokens(
    valid: Bool[Array, "B G *R"],
    segment_ids: Int[Array, "B G C"] | None,
    mask: Bool[Array, "B G C"],
) -> Bool[Array, "B G C"]:
    """The tokens of `mask` whose advantage is valid: what the loss, its KL term and its
    denominators count.

    Out are the tokens of samples that a filter dropped or that no reward scored, and with ranks
    those of invalid ranks; tokens of no rank stay while any rank of their sample is valid. Groups
    without signal whose zeros count are valid, and stay.
    """
    if valid.ndim == 2:
        return mask & valid[:, :, None]
    ranks = valid.shape[2]
    owned = (segment_ids >= 0) & (segment_ids < ranks)
    of_rank = jnp.take_along_axis(valid, jnp.clip(segment_ids, 0, ranks - 1), axis=2)
    return mask & jnp.where(owned, of_rank, jnp.any(valid, axis=2, keepdims=True))


def completion_metrics(
    lengths: Float[Array, "B G"], finished: Bool[Array, "B G"]
) -> dict[str, Array]:
    """Lengths in tokens, of all completions and of those that ended by themselves (0 if none did),
    and the share of truncated ones.
    """
    ended = jnp.maximum(jnp.sum(finished, dtype=lengths.dtype), 1.0)
    shortest = jnp.min(jnp.where(finished, lengths, jnp.inf))
    return {
        "completions/length_mean": jnp.mean(lengths),
        "completions/length_min": jnp.min(lengths),
        "completions/length_max": jnp.max(lengths),
        "completions/truncated_fraction": 1.0 - jnp.mean(finished.astype(lengths.dtype)),
        "completions/terminated_length_mean": jnp.sum(jnp.where(finished, lengths, 0.0)) / ended,
        "completions/terminated_length_min": jnp.where(jnp.any(finished), shortest, 0.0),
        "completions/terminated_length_max": jnp.max(jnp.where(finished, lengths, 0.0)),
        "tokens": jnp.sum(lengths),
    }


def _count_items(mask: Array, segment_ids: Array) -> Array:
    """Different ranks, -1 left out, among the tokens of each completion, `[B, G]`."""
    ranks = jnp.sort(jnp.where(mask, segment_ids, -1), axis=-1)
    before = jnp.concatenate([jnp.full_like(ranks[..., :1], -1), ranks[..., :-1]], axis=-1)
    return jnp.sum((ranks >= 0) & (ranks != before), axis=-1, dtype=jnp.float32)


def _rank_lengths(mask: Array, segment_ids: Array, ranks: int) -> Array:
    """Tokens of each rank, `[B, G, R]`."""
    belongs = segment_ids[..., None] == jnp.arange(ranks)[None, None, None]
    return jnp.sum(belongs & mask[..., None], axis=2, dtype=jnp.float32)
