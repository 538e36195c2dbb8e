"""Weights that look at the batch: saturation (SA-MRPO) and variation (SAW).

Base weights are those of `weigh`, schedules included, and are part of the state; the rest is
recomputed from the raw rewards of each batch.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.records import AdvantageTransform, Flow
from gdpo_jax.advantages.resolution import raw_noise
from gdpo_jax.advantages.statistics import BatchStatistics, batch_statistics
from gdpo_jax.advantages.weights import (
    Weights,
    WeightState,
    apply_weights,
    current_weights,
    init_weights,
)
from gdpo_jax.errors import UserError


def weigh_by_saturation(
    bounds: Mapping[str, tuple[float, float]], weights: Weights = None, *, gamma: float = 0.5
) -> AdvantageTransform:
    """`w_k (1 - s_k)^gamma` with `s_k = (mean_b r_k - low_k) / (high_k - low_k)` (SA-MRPO,
    2608.16072).

    A reward that the batch has nearly solved loses weight; gamma = 0 leaves the weights as they
    are. So does a batch in which nobody has the reward.
    bounds: lowest and highest possible value of every reward.
    Raises UserError for missing or unknown names and for bounds that are not low < high.
    """
    for name, (low, high) in bounds.items():
        if not low < high:
            raise UserError(f"bounds of reward {name!r} are ({low}, {high}); give low < high")

    def init(names: tuple[str, ...]) -> WeightState:
        if set(bounds) != set(names):
            raise UserError(f"bounds name {sorted(bounds)}, the rewards are {list(names)}")
        return init_weights(weights, names)

    def update(flow: Flow, state: WeightState) -> tuple[Flow, WeightState]:
        low, high = jnp.array([bounds[name] for name in flow.names], flow.raw.dtype).T
        stats = _per_reward(flow)
        mean, count = jnp.ravel(stats.mean), jnp.ravel(stats.count)
        saturation = jnp.clip((mean - low) / (high - low), 0, 1)
        saturation = jnp.where(count > 0, saturation, 0)
        base, state = current_weights(weights, state, flow.names, flow)
        current = base.astype(mean.dtype) * (1 - saturation) ** gamma
        return apply_weights(flow, current), state

    about = named("weigh_by_saturation", bounds=bounds, weights=weights, gamma=gamma)
    return AdvantageTransform(init, update, about)


def weigh_by_variation(weights: Weights = None, *, eps: float = 1e-8) -> AdvantageTransform:
    """`w_k K CV_k / (sum_l CV_l + eps)`, `CV_k = sd_b(r_k) / (|mean_b r_k| + eps)` (SAW,
    2606.07705).

    A reward that still varies relative to its mean gains weight. The coefficient of variation needs
    rewards of one sign: the authors' code shifts correctness by +3 to make it positive.
    K counts the rewards that anybody has in the batch; one that nobody has leaves the others alone.
    """

    def init(names: tuple[str, ...]) -> WeightState:
        return init_weights(weights, names)

    def update(flow: Flow, state: WeightState) -> tuple[Flow, WeightState]:
        stats = _per_reward(flow)
        variation = jnp.ravel(stats.std) / (jnp.abs(jnp.ravel(stats.mean)) + eps)
        # In units of the largest: a mean of 0 under rewards of 1e30 would make the sum infinite.
        largest = jnp.max(variation)
        unit = variation / jnp.where(largest > 0, largest, 1)
        share = unit / (jnp.sum(unit) + eps / jnp.where(largest > 0, largest, 1))
        base, state = current_weights(weights, state, flow.names, flow)
        measured = jnp.sum(jnp.ravel(stats.count) > 0, dtype=share.dtype)
        current = base.astype(share.dtype) * measured * share
        return apply_weights(flow, current), state

    return AdvantageTransform(init, update, named("weigh_by_variation", weights=weights, eps=eps))


def _per_reward(flow: Flow) -> BatchStatistics:
    """Batch mean and standard deviation of every raw reward; 0 where it varies by noise alone."""
    axes = (0, 1) + tuple(range(3, flow.raw.ndim))
    noise = raw_noise(flow.raw, flow.raw_valid, flow.resolution, flow.unit)
    return batch_statistics(flow.raw, flow.raw_valid, axes=axes, noise=noise.threshold)
