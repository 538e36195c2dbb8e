"""Conditioned rewards: one reward counts only where another is high enough (GDPO eq. 8)."""

import dataclasses
from typing import Literal

import jax.numpy as jnp

from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.records import AdvantageTransform, Flow, stateless
from gdpo_jax.advantages.stages import REWARD_AXIS
from gdpo_jax.errors import UserError


def condition(
    name: str, *, on: str, at_least: float, otherwise: Literal["zero", "mask"] = "zero"
) -> AdvantageTransform:
    """Reward `name` where the raw value of reward `on` is at least `at_least`; put it first in the
    chain.

    otherwise="zero": the reward is 0 and still votes in the group (GDPO eq. 8).
    otherwise="mask": it does not vote and contributes 0, so that it is normalised over the
    completions that meet the condition alone (PAPO, arXiv 2603.26535, "subset-normalised").
    Where `on` itself is missing the condition cannot be judged, and `name` is masked.
    Raises UserError for an unknown reward name, or after combine().
    """

    def update(flow: Flow) -> Flow:
        if flow.combined:
            raise UserError(f"condition({name!r}, on={on!r}) must stand before combine()")
        for reward in (name, on):
            if reward not in flow.names:
                raise UserError(
                    f"condition on unknown reward {reward!r}; known: {list(flow.names)}"
                )
        target, judge = flow.names.index(name), flow.names.index(on)
        known = jnp.take(flow.raw_valid, judge, axis=REWARD_AXIS)
        met = known & (jnp.take(flow.raw, judge, axis=REWARD_AXIS) >= at_least)
        shape = [1] * flow.values.ndim
        shape[REWARD_AXIS] = len(flow.names)
        is_target = (jnp.arange(len(flow.names)) == target).reshape(shape)
        met, known = (jnp.expand_dims(x, REWARD_AXIS) for x in (met, known))
        voting = known if otherwise == "zero" else met
        return dataclasses.replace(
            flow,
            values=jnp.where(is_target & ~met, 0, flow.values),
            valid=flow.valid & (voting | ~is_target),
        )

    about = named("condition", name=name, on=on, at_least=at_least, otherwise=otherwise)
    return stateless(update, about)
