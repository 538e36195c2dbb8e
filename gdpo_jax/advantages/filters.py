"""Which groups carry signal: masks for dynamic sampling (DAPO, arXiv 2503.14476), on a stated
quantity.

The quantity matters: under GDPO a group whose summed reward is constant can still carry signal, and
filtering on the sum drops it (the paper's own runs did so). Equality is exact: max = min over valid
members. Each function gives `[B]`, true for groups to keep; with per-item rewards a group is kept
if any of its ranks carries signal. Drop the others with `mask_samples`, or let
`drop_silent_groups` do both inside a chain.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdpo_jax.advantages.algebra import chain, start_flow, with_metrics
from gdpo_jax.advantages.records import (
    AdvantageTransform,
    AnyArray,
    Flow,
    RewardBatch,
    stateless,
)
from gdpo_jax.advantages.stages import combine
from gdpo_jax.advantages.statistics import group_statistics, rounding_of_sums
from gdpo_jax.advantages.weights import Weights, weigh
from gdpo_jax.errors import UserError


def reward_varies(rewards: RewardBatch, name: str) -> Bool[Array, "B"]:
    """Groups in which one raw reward varies. Raises UserError for an unknown name."""
    if name not in rewards.names:
        raise UserError(f"unknown reward {name!r}; known: {list(rewards.names)}")
    flow = start_flow(rewards)
    k = rewards.names.index(name)
    return _any_member(group_statistics(flow.values[:, :, k], flow.valid[:, :, k]).live)


def any_reward_varies(rewards: RewardBatch) -> Bool[Array, "B"]:
    """Groups in which at least one raw reward varies: all that can carry GDPO signal."""
    flow = start_flow(rewards)
    return _any_member(group_statistics(flow.values, flow.valid).live)


def weighted_sum_varies(rewards: RewardBatch, weights: Weights = None) -> Bool[Array, "B"]:
    """Groups in which the weighted sum of raw rewards varies: all that can carry GRPO signal."""
    summed = chain(weigh(weights), combine())
    flow, _ = summed.update(start_flow(rewards), summed.init(rewards.names))
    return _any_member(group_statistics(flow.values, flow.valid, noise=flow.noise).live)


def advantage_varies(
    transform: AdvantageTransform,
    rewards: RewardBatch,
    state: Any,
    *,
    lengths: Float[AnyArray, "B G *R"] | None = None,
    penalty: Float[AnyArray, "B G *P"] | None = None,
) -> Bool[Array, "B"]:
    """Groups in which the sum that `transform` forms (for GDPO: the pre-batch-norm advantage)
    varies. lengths, penalty: as in `compute_advantages`.
    """
    flow, _ = transform.update(start_flow(rewards, lengths, penalty), state)
    if not flow.combined:
        raise UserError("the transform never combines the rewards; put combine() into the chain")
    components = flow.trace["components"]
    noise = rounding_of_sums(components) if components.shape[2] > 1 else None
    total, voters = flow.trace["sum"], flow.trace["sum_valid"]
    return _any_member(group_statistics(total, voters, noise=noise).live)


def drop_silent_groups(on: str | None = None) -> AdvantageTransform:
    """The same choice as a stage of a chain: groups without signal have no vote and no advantage.

    Before combine() it looks at the raw reward `on`, or, with None, drops groups in which no raw
    reward varies. After combine() it looks at the sum as it stands: the weighted sum of rewards
    behind `weigh(w), combine()`, the pre-batch-norm advantage behind `group_normalize(), weigh(w),
    combine()`. Logs "advantage/dropped_groups", the share of groups with a vote that it drops.
    Raises UserError for an unknown name, or a name after combine().
    """

    def update(flow: Flow) -> Flow:
        if flow.combined and on is not None:
            raise UserError(f"drop_silent_groups({on!r}) must stand before combine()")
        if on is not None and on not in flow.names:
            raise UserError(f"unknown reward {on!r}; known: {list(flow.names)}")
        if flow.combined:
            values, valid, noise = flow.values, flow.valid, flow.noise
        else:
            first = 0 if on is None else flow.names.index(on)
            last = len(flow.names) if on is None else first + 1
            values, valid = flow.raw[:, :, first:last], flow.raw_valid[:, :, first:last]
            noise = None
        keep = _any_member(group_statistics(values, valid, noise=noise).live)
        voted = _any_member(flow.valid)
        dropped = jnp.sum(voted & ~keep) / jnp.maximum(jnp.sum(voted), 1)
        kept = keep.reshape((-1,) + (1,) * (flow.valid.ndim - 1))
        flow = with_metrics(flow, {"advantage/dropped_groups": dropped})
        return dataclasses.replace(flow, valid=flow.valid & kept)

    return stateless(update)


def _any_member(live: Bool[Array, "B *rest"]) -> Bool[Array, "B"]:
    return jnp.any(live, axis=tuple(range(1, live.ndim)))
