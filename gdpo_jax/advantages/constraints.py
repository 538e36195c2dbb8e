"""Costs with thresholds, and multipliers that learn how much each one must weigh."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdpo_jax.advantages.algebra import with_metrics
from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.records import AdvantageTransform, Flow
from gdpo_jax.advantages.statistics import batch_statistics
from gdpo_jax.advantages.weights import (
    Weights,
    WeightState,
    apply_weights,
    current_weights,
    init_weights,
)
from gdpo_jax.errors import UserError


class LagrangianState(NamedTuple):
    """weights: state of the weights of the columns that are rewards. multipliers: of all K columns
    (0 at rewards).
    """

    weights: WeightState
    multipliers: Float[Array, "K"]


def lagrangian(
    thresholds: Mapping[str, float],
    *,
    step_size: float,
    weights: Weights = None,
    initial: float = 0.0,
    highest: float = float("inf"),
) -> AdvantageTransform:
    """`lam_R Z_R - sum_k lam_k Z_k` over cost columns k, lam by dual ascent (2602.05863).

    The columns named in `thresholds` hold costs (indicators of a violation); the others are rewards
    with `weights`. After the batch, `lam_k <- clip(lam_k + step_size (mean cost_k - threshold_k),
    0, highest)`: a constraint that holds loses its weight, one that is violated gains it, and one
    that nobody measured in the batch keeps it. This is
    GDPO eq. 7 with learned weights, so the multipliers act on z-scores: put it after
    group_normalize(). The paper's dual step size is not known; there is no default.
    Logs "constraint/{name}/multiplier" and "constraint/{name}/rate".
    Raises UserError for an unknown cost, no reward beside the costs, or a step size that is not
    positive.
    """
    if not step_size > 0:
        raise UserError(f"lagrangian(step_size={step_size}): the step size must be positive")

    def init(names: tuple[str, ...]) -> LagrangianState:
        unknown = sorted(set(thresholds) - set(names))
        if unknown:
            raise UserError(f"thresholds for unknown costs {unknown}; known: {list(names)}")
        rewards = tuple(name for name in names if name not in thresholds)
        if not rewards:
            raise UserError(f"all of {list(names)} are costs; at least one reward is needed")
        is_cost = jnp.array([name in thresholds for name in names])
        return LagrangianState(
            weights=init_weights(weights, rewards),
            multipliers=jnp.where(is_cost, jnp.float32(initial), jnp.float32(0)),
        )

    def update(flow: Flow, state: LagrangianState) -> tuple[Flow, LagrangianState]:
        axes = (0, 1) + tuple(range(3, flow.raw.ndim))
        stats = batch_statistics(flow.raw, flow.raw_valid, axes=axes)
        rate = jnp.ravel(stats.mean).astype(state.multipliers.dtype)
        measured = jnp.ravel(stats.count) > 0
        is_cost = jnp.array([name in thresholds for name in flow.names])
        limit = jnp.array([thresholds.get(name, 0.0) for name in flow.names], rate.dtype)
        moved = jnp.clip(state.multipliers + step_size * (rate - limit), 0, highest)
        moved = jnp.where(measured, moved, state.multipliers)
        metrics = {}
        for k, name in enumerate(flow.names):
            if name in thresholds:
                metrics[f"constraint/{name}/multiplier"] = state.multipliers[k]
                metrics[f"constraint/{name}/rate"] = rate[k]
        flow = with_metrics(flow, metrics)
        rewards = tuple(name for name in flow.names if name not in thresholds)
        own, weight_state = current_weights(weights, state.weights, rewards, flow)
        places = jnp.array([flow.names.index(name) for name in rewards])
        spread = jnp.zeros_like(state.multipliers).at[places].set(own.astype(jnp.float32))
        flow = apply_weights(flow, spread - state.multipliers)
        return flow, LagrangianState(weight_state, jnp.where(is_cost, moved, 0))

    about = named(
        "lagrangian",
        thresholds=thresholds,
        step_size=step_size,
        weights=weights,
        initial=initial,
        highest=highest,
    )
    return AdvantageTransform(init, update, about)
