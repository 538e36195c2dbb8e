"""What difference between two rewards is a difference: the resolution of a reward.

A reward model gives the same text a score that differs in its last digits from one batch position
to the next. A normalisation without an epsilon would turn such noise into advantages of unit size.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.records import UNITS, AdvantageTransform, Flow, stateless
from gdpo_jax.advantages.statistics import GROUP_AXIS, from_lowest, largest_size
from gdpo_jax.errors import UserError

# None: UNITS units in the last place of the group's largest value. A number: that difference, in
# the reward's own units; 0: every difference counts. A mapping gives one per reward, and None for
# the rewards it does not name.
Resolution = float | Mapping[str, float | None] | None


class Noise(NamedTuple):
    """threshold: `[B, 1, ...]` differences of a group at or below it are no signal. error: how far
    rounding alone may move two values of a group against each other, never more than the threshold.
    """

    threshold: Float[Array, "B 1 *rest"]
    error: Float[Array, "B 1 *rest"]


def set_resolution(resolution: Resolution = None) -> AdvantageTransform:
    """Groups in which a reward differs by no more than `resolution` become equal in it.

    Put it at the head of a chain, so that numbers are in the units of the rewards. Stages that
    normalise do the same with the default of 8 units in the last place; 0 keeps every difference.
    Raises UserError for an unknown name or a negative number, or after combine().
    """

    def update(flow: Flow) -> Flow:
        if flow.combined:
            raise UserError("set_resolution() must stand before combine()")
        return resolved(flow, resolution)

    return stateless(update, named("set_resolution", resolution=resolution))


def resolved(flow: Flow, resolution: Resolution = None) -> Flow:
    """The flow before combine() with equal values where a reward's differences are no signal.

    `noise` afterwards: the rounding error of a reward where it differs, its resolution elsewhere.
    """
    flow, noise = measure(flow, resolution)
    low, rise = from_lowest(flow.values, flow.valid, noise.threshold)
    varies = jnp.any(rise > 0, axis=GROUP_AXIS, keepdims=True)
    return dataclasses.replace(
        flow,
        values=jnp.where(varies | ~flow.valid, flow.values, low),
        noise=jnp.where(varies, noise.error, noise.threshold),
    )


def measure(flow: Flow, resolution: Resolution = None) -> tuple[Flow, Noise]:
    """The noise of the values of the flow, and the flow that remembers an explicit resolution.

    After combine() the noise is that of the sum, and a resolution must be one number. A later stage
    can raise the noise that an earlier one left, not lower it.
    """
    if flow.combined:
        number = _number("the combined rewards", resolution) if resolution is not None else 0.0
        own = jnp.zeros_like(flow.values[:, :1]) if flow.noise is None else flow.noise
        return flow, Noise(jnp.maximum(own, number), own)
    if resolution is not None:
        flow = dataclasses.replace(flow, resolution=per_reward(resolution, flow.names))
    if flow.noise is None:
        return flow, raw_noise(flow.values, flow.valid, flow.resolution, flow.unit)
    if resolution is None:
        return flow, Noise(flow.noise, flow.noise)
    threshold = jnp.maximum(flow.noise, _along([x or 0.0 for x in flow.resolution], flow.values))
    return flow, Noise(threshold, flow.noise)


def raw_noise(
    values: Float[Array, "B G K *R"],
    valid: Bool[Array, "B G K *R"],
    resolution: tuple[float | None, ...],
    unit: float,
) -> Noise:
    """The noise of rewards as they come. `unit`: spacing of their dtype at 1.

    A value that was rounded once is off by half a unit of its last place, two values by one unit
    against each other. With a resolution of 0 the rewards count as exact.
    """
    size = unit * largest_size(values, valid)
    chosen = [0.0 if x is None else x for x in resolution]
    relative = [UNITS if x is None else 0.0 for x in resolution]
    inexact = [0.0 if x == 0 else 1.0 for x in resolution]
    return Noise(
        jnp.maximum(_along(relative, values) * size, _along(chosen, values)),
        _along(inexact, values) * size,
    )


def per_reward(resolution: Resolution, names: tuple[str, ...]) -> tuple[float | None, ...]:
    """One resolution for every reward. Raises UserError for unknown names and negative numbers."""
    if resolution is None:
        return (None,) * len(names)
    if isinstance(resolution, Mapping):
        unknown = sorted(set(resolution) - set(names))
        if unknown:
            raise UserError(f"resolution of unknown rewards {unknown}; known: {list(names)}")
        found = [(name, resolution.get(name)) for name in names]
        return tuple(None if x is None else _number(f"reward {n!r}", x) for n, x in found)
    return (_number("every reward", resolution),) * len(names)


def _number(of: str, resolution: Resolution) -> float:
    if isinstance(resolution, Mapping):
        raise UserError(
            f"the resolution of {of} must be one number, got {dict(resolution)}; give one per "
            "reward to a stage before combine()"
        )
    if not (0 <= resolution < math.inf):
        raise UserError(f"resolution of {of} is {resolution}; it must be a number of at least 0")
    return float(resolution)


def _along(numbers: list[float], values: Float[Array, "B G K *R"]) -> Float[Array, "1 1 K *ones"]:
    return jnp.array(numbers, values.dtype).reshape((1, 1, -1) + (1,) * (values.ndim - 3))


__all__ = ["Resolution", "measure", "per_reward", "raw_noise", "resolved", "set_resolution"]
