"""Which groups carry signal: masks for dynamic sampling (DAPO, arXiv 2503.14476), on a stated
quantity.

The quantity matters: under GDPO a group whose summed reward is constant can still carry signal, and
filtering on the sum drops it (the paper's own runs did so). A reward varies where its differences
exceed its `resolution` (see `set_resolution`). Each function gives `[B]`, true for groups to keep;
with per-item rewards a group is kept if any of its ranks carries signal. Drop the others with
`mask_samples`, or let `drop_silent_groups` do both inside a chain.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdpo_jax.advantages.algebra import chain, start_flow, with_metrics
from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.records import (
    AdvantageTransform,
    AnyArray,
    Flow,
    RewardBatch,
    stateless,
)
from gdpo_jax.advantages.resolution import (
    Resolution,
    measure,
    per_reward,
    raw_noise,
    set_resolution,
)
from gdpo_jax.advantages.stages import combine
from gdpo_jax.advantages.statistics import group_statistics
from gdpo_jax.advantages.weights import Weights, weigh
from gdpo_jax.errors import UserError


def reward_varies(
    rewards: RewardBatch, name: str, *, resolution: Resolution = None
) -> Bool[Array, "B"]:
    """Groups in which one raw reward varies. Raises UserError for an unknown name."""
    if name not in rewards.names:
        raise UserError(f"unknown reward {name!r}; known: {list(rewards.names)}")
    return _any_member(_live(start_flow(rewards), resolution)[:, :, rewards.names.index(name)])


def any_reward_varies(rewards: RewardBatch, *, resolution: Resolution = None) -> Bool[Array, "B"]:
    """Groups in which at least one raw reward varies: all that can carry GDPO signal."""
    return _any_member(_live(start_flow(rewards), resolution))


def weighted_sum_varies(
    rewards: RewardBatch, weights: Weights = None, *, resolution: Resolution = None
) -> Bool[Array, "B"]:
    """Groups in which the weighted sum of raw rewards varies: all that can carry GRPO signal."""
    summed = chain(set_resolution(resolution), weigh(weights), combine())
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
    # combine() has made the sums of a group without signal equal.
    return _any_member(group_statistics(flow.trace["sum"], flow.trace["sum_valid"]).live)


def drop_silent_groups(
    on: str | None = None, *, resolution: Resolution = None
) -> AdvantageTransform:
    """The same choice as a stage of a chain: groups without signal enter no statistics and get no
    advantage.

    Before combine() it looks at the raw reward `on`, or, with None, drops groups in which no raw
    reward varies. After combine() it looks at the sum as it stands: the weighted sum of rewards
    behind `weigh(w), combine()`, the pre-batch-norm advantage behind `group_normalize(), weigh(w),
    combine()`. Logs "advantage/dropped_groups", the share of groups with a valid sample that it
    drops.
    Raises UserError for an unknown name, or a name after combine().
    """

    def update(flow: Flow) -> Flow:
        if flow.combined and on is not None:
            raise UserError(f"drop_silent_groups({on!r}) must stand before combine()")
        if on is not None and on not in flow.names:
            raise UserError(f"unknown reward {on!r}; known: {list(flow.names)}")
        if flow.combined:
            _, noise = measure(flow, resolution)
            live = group_statistics(flow.values, flow.valid, noise=noise.floor).live
        else:
            live = _live(flow, resolution)
            live = live if on is None else live[:, :, flow.names.index(on)]
        keep = _any_member(live)
        voted = _any_member(flow.valid)
        dropped = jnp.sum(voted & ~keep) / jnp.maximum(jnp.sum(voted), 1)
        kept = keep.reshape((-1,) + (1,) * (flow.valid.ndim - 1))
        flow = with_metrics(flow, {"advantage/dropped_groups": dropped})
        return dataclasses.replace(flow, valid=flow.valid & kept)

    return stateless(update, named("drop_silent_groups", on=on, resolution=resolution))


def _live(flow: Flow, resolution: Resolution) -> Bool[Array, "B 1 K *R"]:
    """Where a raw reward varies, by the resolution given or else by that of the flow."""
    chosen = flow.resolution if resolution is None else per_reward(resolution, flow.names)
    noise = raw_noise(flow.raw, flow.raw_valid, chosen, flow.unit)
    return group_statistics(flow.raw, flow.raw_valid, noise=noise.floor).live


def _any_member(live: Bool[Array, "B *rest"]) -> Bool[Array, "B"]:
    return jnp.any(live, axis=tuple(range(1, live.ndim)))
