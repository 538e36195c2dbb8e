"""Which groups carry signal: masks for dynamic sampling (DAPO, arXiv 2503.14476), on a stated
quantity.

The quantity matters: under GDPO a group whose summed reward is constant can still carry signal, and
filtering on the sum drops it (the paper's own runs did so). Equality is exact: max = min over valid
members. Each function gives `[B]`, true for groups to keep; with per-item rewards a group is kept
if any of its ranks carries signal. Drop the others with `mask_samples`.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool

from gdpo_jax.advantages.algebra import chain, start_flow
from gdpo_jax.advantages.records import AdvantageTransform, RewardBatch
from gdpo_jax.advantages.stages import combine
from gdpo_jax.advantages.statistics import group_statistics
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
    transform: AdvantageTransform, rewards: RewardBatch, state: Any
) -> Bool[Array, "B"]:
    """Groups in which the sum that `transform` forms (for GDPO: the pre-batch-norm advantage)
    varies.
    """
    flow, _ = transform.update(start_flow(rewards), state)
    if not flow.combined:
        raise UserError("the transform never combines the rewards; put combine() into the chain")
    return _any_member(group_statistics(flow.trace["sum"], flow.trace["sum_valid"]).live)


def _any_member(live: Bool[Array, "B *rest"]) -> Bool[Array, "B"]:
    return jnp.any(live, axis=tuple(range(1, live.ndim)))
