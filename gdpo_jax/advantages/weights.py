"""Weights on the rewards: numbers in the state, or a schedule of them; never constants of the
compiled code.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gdpo_jax.advantages.algebra import with_metrics
from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.records import AdvantageTransform, AnyArray, Flow
from gdpo_jax.advantages.statistics import batch_statistics
from gdpo_jax.errors import UserError

Schedule = Callable[[Int[Array, ""]], Any]
Weights = Mapping[str, Any] | Sequence[Any] | AnyArray | Schedule | None


class FixedWeights(NamedTuple):
    """State of `weigh` with numbers: replace `weights` to change them without a new compilation."""

    weights: Float[Array, "K"]


class ScheduledWeights(NamedTuple):
    """State of `weigh` with schedules: the number of batches so far that had any reward."""

    step: Int[Array, ""]


WeightState = FixedWeights | ScheduledWeights


def weigh(weights: Weights = None) -> AdvantageTransform:
    """Multiplies every reward by its weight: on z-scores in GDPO (eq. 7), on rewards in GRPO.

    weights: None (all one), K numbers in the order of the names, a mapping name -> number, or a
    schedule step -> K numbers. A number in a mapping may itself be a schedule step -> number (every
    optax schedule is one). Weights do not change which members are valid.
    Raises UserError for missing or unknown names and for a wrong count.
    """

    def init(names: tuple[str, ...]) -> WeightState:
        return init_weights(weights, names)

    def update(flow: Flow, state: WeightState) -> tuple[Flow, WeightState]:
        current, state = current_weights(weights, state, flow.names, flow)
        return apply_weights(flow, current), state

    return AdvantageTransform(init, update, named("weigh", weights=weights))


def init_weights(weights: Weights, names: tuple[str, ...]) -> WeightState:
    """The state of a stage that holds weights. Raises UserError as `weigh` does."""
    if _is_schedule(weights):
        return ScheduledWeights(step=jnp.zeros((), jnp.int32))
    return FixedWeights(weights=ordered_weights(weights, names))


def current_weights(
    weights: Weights, state: WeightState, names: tuple[str, ...], flow: Flow
) -> tuple[Float[Array, "K"], WeightState]:
    """The weights of the rewards `names` in force and the next state: numbers come from the state,
    schedules from `weights` at its step, which a batch without any reward does not move.
    """
    if isinstance(state, ScheduledWeights):
        step = state.step + jnp.any(flow.raw_valid).astype(state.step.dtype)
        return _scheduled(weights, state.step, names), ScheduledWeights(step=step)
    return state.weights, state


def apply_weights(flow: Flow, weights: Float[Array, "K"]) -> Flow:
    """The flow with reward k multiplied by `weights[k]`. Must stand before combine().

    Logs "weight/{name}", and "reward_sum/mean" and "reward_sum/std" of the weighted sum of the raw
    rewards, what GRPO would train on; a missing reward adds nothing to it.
    """
    if flow.combined:
        raise UserError("weights act on single rewards: put the weighing stage before combine()")
    if weights.shape != (len(flow.names),):
        raise UserError(f"weights have shape {weights.shape}; the rewards are {list(flow.names)}")
    weights = weights.astype(flow.values.dtype)
    metrics = {f"weight/{name}": weights[k] for k, name in enumerate(flow.names)}
    total = jnp.sum(flow.raw * along_rewards(weights, flow.raw.ndim), axis=2)
    counted = jnp.any(flow.raw_valid, axis=2)
    stats = batch_statistics(total, counted, axes=tuple(range(total.ndim)))
    metrics["reward_sum/mean"] = jnp.ravel(stats.mean)[0]
    metrics["reward_sum/std"] = jnp.ravel(stats.std)[0]
    flow = with_metrics(flow, metrics)
    factors = along_rewards(weights, flow.values.ndim)
    noise = None if flow.noise is None else flow.noise * jnp.abs(factors)
    return dataclasses.replace(flow, values=flow.values * factors, noise=noise)


def along_rewards(weights: Float[Array, "K"], ndim: int) -> Float[Array, "1 1 K *ones"]:
    """The K numbers on the reward axis of an array of rank `ndim`."""
    return weights.reshape((1, 1, -1) + (1,) * (ndim - 3))


def ordered_weights(weights: Weights, names: tuple[str, ...]) -> Float[Array, "K"]:
    """K numbers in the order of the names. Raises UserError for unknown or missing names, a wrong
    count, or a number that is not finite.
    """
    if weights is None:
        return jnp.ones((len(names),), jnp.float32)
    if isinstance(weights, Mapping):
        weights = [weights[name] for name in _checked_names(weights, names)]
    if isinstance(weights, (jnp.ndarray, np.ndarray)):
        weights = jnp.asarray(weights)
    else:
        weights = jnp.stack([jnp.asarray(w, _float_dtype(w)) for w in weights])
    if weights.shape != (len(names),):
        raise UserError(f"{weights.shape} weights for the {len(names)} rewards {list(names)}")
    if not isinstance(weights, jax.core.Tracer) and not np.all(np.isfinite(weights)):
        raise UserError(f"weights of {list(names)} must be finite, got {weights.tolist()}")
    return weights


def _float_dtype(number: Any) -> Any:
    return jnp.float64 if getattr(number, "dtype", None) == jnp.float64 else jnp.float32


def _checked_names(weights: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    unknown, missing = sorted(set(weights) - set(names)), sorted(set(names) - set(weights))
    if unknown or missing:
        raise UserError(
            f"weights name the rewards {sorted(weights)}, the batch has {list(names)}"
            + (f"; unknown: {unknown}" if unknown else "")
            + (f"; without a weight: {missing}" if missing else "")
        )
    return names


def _is_schedule(weights: Weights) -> bool:
    if isinstance(weights, Mapping):
        return any(callable(value) for value in weights.values())
    return callable(weights)


def _scheduled(weights: Any, step: Int[Array, ""], names: tuple[str, ...]) -> Float[Array, "K"]:
    if isinstance(weights, Mapping):
        numbers = [weights[name] for name in _checked_names(weights, names)]
        numbers = [number(step) if callable(number) else number for number in numbers]
        return ordered_weights(numbers, names)
    current = weights(step)
    return ordered_weights(current if isinstance(current, Mapping) else jnp.asarray(current), names)
