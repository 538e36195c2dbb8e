"""Stages that scale the rewards of a group together instead of one by one: DVAO and CorrGRPO."""

import dataclasses

import jax.numpy as jnp

from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.records import AdvantageTransform, Flow, stateless
from gdpo_jax.advantages.resolution import Resolution, measure
from gdpo_jax.advantages.stages import REWARD_AXIS, centred_in_group
from gdpo_jax.advantages.statistics import group_statistics
from gdpo_jax.advantages.weights import (
    Weights,
    WeightState,
    along_rewards,
    apply_weights,
    current_weights,
    init_weights,
)
from gdpo_jax.errors import UserError


def weigh_by_group_deviation(
    weights: Weights = None, *, resolution: Resolution = None
) -> AdvantageTransform:
    """`b_k (r_k - mu_k) / sum_l b_l sd_l` inside each group, ddof 0 (DVAO, arXiv 2605.25604).

    The sum over rewards is z-scores weighted by `v_k = b_k sd_k / sum_l b_l sd_l`: within a group a
    reward counts as much as it varies. A group whose rewards all differ by no more than
    `resolution` (see `set_resolution`) gives 0.
    The formula comes from a secondary note, not from the paper's text: treat it as uncertain.
    """

    def init(names: tuple[str, ...]) -> WeightState:
        return init_weights(weights, names)

    def update(flow: Flow, state: WeightState) -> tuple[Flow, WeightState]:
        _before_combine(flow, "weigh_by_group_deviation()")
        flow, noise = measure(flow, resolution)
        stats = group_statistics(flow.values, flow.valid, ddof=0, noise=noise.threshold)
        current, state = current_weights(weights, state, flow.names, flow)
        spread = along_rewards(current.astype(flow.values.dtype), flow.values.ndim)
        std = jnp.where(stats.varies, stats.std, 0) * stats.scale
        total = jnp.sum(spread * std, axis=REWARD_AXIS, keepdims=True)
        centred = centred_in_group(flow, stats, noise)
        weighted = apply_weights(centred, current)
        divisor = jnp.where(total > 0, total, 1)
        values = jnp.where(total > 0, weighted.values / divisor, 0)
        return dataclasses.replace(weighted, values=values, noise=weighted.noise / divisor), state

    about = named("weigh_by_group_deviation", weights=weights, resolution=resolution)
    return AdvantageTransform(init, update, about)


def divide_by_correlation(
    *, eps: float = 1e-6, resolution: Resolution = None
) -> AdvantageTransform:
    """`(r_k - mu_k) / sqrt(sum_lm rho_lm + eps)`, rho the Pearson correlations of the rewards in
    the group (CorrGRPO, arXiv 2609.36820).

    Rewards that differ by no more than `resolution` (see `set_resolution`) have correlation 0 with
    all. With covariances in place of correlations the sum over rewards would be GRPO. Rewards that
    oppose each other (rho near -1) shrink the root toward sqrt(eps), which blows the group up: the
    formula's failure case.
    Missing rewards enter a correlation as their mean.
    """

    def update(flow: Flow) -> Flow:
        _before_combine(flow, "divide_by_correlation()")
        flow, noise = measure(flow, resolution)
        stats = group_statistics(flow.values, flow.valid, noise=noise.threshold)
        length = jnp.sqrt(jnp.sum(jnp.square(stats.deviation), axis=1, keepdims=True))
        unit = stats.deviation / jnp.where(stats.varies, length, 1)
        # sum_lm rho_lm = |sum_k unit_k|^2, never negative, without the K x K matrix.
        total = jnp.sum(
            jnp.square(jnp.sum(unit, axis=REWARD_AXIS, keepdims=True)), axis=1, keepdims=True
        )
        flow, root = centred_in_group(flow, stats, noise), jnp.sqrt(total + eps)
        return dataclasses.replace(flow, values=flow.values / root, noise=flow.noise / root)

    return stateless(update, named("divide_by_correlation", eps=eps, resolution=resolution))


def _before_combine(flow: Flow, stage: str) -> None:
    if flow.combined:
        raise UserError(f"{stage} must stand before combine()")
