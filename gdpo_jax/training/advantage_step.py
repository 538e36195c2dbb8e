"""Rewards of a rollout to token advantages on the mesh, with the metrics of both."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from gdpo_jax.advantages import (
    Advantages,
    AdvantageTransform,
    RewardBatch,
    compute_advantages,
)
from gdpo_jax.objectives import spread_to_tokens
from gdpo_jax.training.mesh import batch_sharding, replicated

AdvantageStep = Callable[..., tuple[Array, Advantages, Any, dict[str, Array]]]


@functools.lru_cache(maxsize=64)
def make_advantage_step(transform: AdvantageTransform, *, mesh: Mesh) -> AdvantageStep:
    """`f(advantage_state, rewards, mask, finished, segment_ids)` on the mesh.

    Returns token advantages `[B, G, C]`, the advantages, the new advantage state, and the metrics
    of the rewards and of completion lengths.
    """

    def prepare(advantage_state, rewards: RewardBatch, mask, finished, segment_ids):
        lengths = jnp.sum(mask, axis=-1, dtype=jnp.float32)
        advantages, advantage_state, metrics = compute_advantages(
            transform,
            rewards,
            advantage_state,
            lengths=lengths
            if rewards.values.ndim == 3
            else _rank_lengths(mask, segment_ids, rewards.values.shape[3]),
        )
        tokens = spread_to_tokens(advantages.values, segment_ids, mask)
        metrics = {**metrics, **completion_metrics(lengths, finished)}
        if segment_ids is not None:
            metrics["completions/items_mean"] = jnp.mean(_count_items(mask, segment_ids))
        return tokens, advantages, advantage_state, metrics

    over_batch, everywhere = batch_sharding(mesh), replicated(mesh)
    return jax.jit(
        prepare,
        in_shardings=(everywhere, over_batch, over_batch, over_batch, over_batch),
        out_shardings=(over_batch, over_batch, everywhere, everywhere),
    )


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
