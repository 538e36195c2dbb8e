"""What counts: rewards that others gate, samples whose rewards conflict, groups without signal.

`condition` masks one reward where another is too low, `drop_conflicts` masks samples, and
`drop_silent_groups` masks groups, each as a stage of a chain; the functions `..._varies` give the
same choice of groups outside of a chain, for dynamic sampling (DAPO, arXiv 2503.14476): `[B]`, true
for groups to keep, to be dropped with `mask_samples`. They ask about a stated quantity, and that
matters: under GDPO a group whose summed reward is constant can still carry signal, and filtering on
the sum drops it (the paper's own runs did so). A reward varies where its differences exceed its
`resolution` (see `set_resolution`); with per-item rewards a group is kept if any of its ranks
carries signal.
"""

import dataclasses
from typing import Any, Literal

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
from gdpo_jax.advantages.stages import REWARD_AXIS, combine
from gdpo_jax.advantages.statistics import group_statistics
from gdpo_jax.advantages.weights import Weights, weigh
from gdpo_jax.errors import UserError

# The authors' code calls a z-score beyond this positive or negative.
CONFLICT_THRESHOLD = 1e-8


def condition(
    name: str, *, on: str, at_least: float, otherwise: Literal["zero", "mask"] = "zero"
) -> AdvantageTransform:
    """Reward `name` where the raw value of reward `on` is at least `at_least` (GDPO eq. 8); put it
    first in the chain.

    otherwise="zero": the reward is 0 and still counts in the group (GDPO eq. 8).
    otherwise="mask": it enters no statistics and contributes 0, so that it is normalised over
    the completions that meet the condition alone (PAPO, arXiv 2603.26535, "subset-normalised").
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
        counting = known if otherwise == "zero" else met
        return dataclasses.replace(
            flow,
            values=jnp.where(is_target & ~met, 0, flow.values),
            valid=flow.valid & (counting | ~is_target),
        )

    about = named("condition", name=name, on=on, at_least=at_least, otherwise=otherwise)
    return stateless(update, about)


def drop_conflicts(
    mode: Literal["hard", "snr"] = "hard", *, tau: float = 0.2, keep_ratio: bool = False
) -> AdvantageTransform:
    """Masks samples with conflicting z-scores, so that later stages do not see them; advantage 0
    (GD2PO, arXiv 2606.16771).

    Conflict: some z_k > 1e-8 and some z_k < -1e-8. "hard" drops every conflict; "snr" only those
    with `|rho| < tau`, `rho = sum z / (sum |z| + 1e-8)` (the authors' code: 0.2, tool calling 0.8).
    keep_ratio multiplies a group by its share of kept samples. Put it between the normalisation of
    the single rewards and combine(); the batch is then normalised over kept samples only. The
    authors' code whitens over tokens; here that is the choice of `batch_normalize`.
    """
    if mode not in ("hard", "snr"):
        raise UserError(f'drop_conflicts({mode!r}): the mode is "hard" or "snr"')

    def update(flow: Flow) -> Flow:
        if flow.combined:
            raise UserError("drop_conflicts() must stand before combine()")
        terms = jnp.where(flow.valid, flow.values, 0)
        drop = jnp.any(terms > CONFLICT_THRESHOLD, axis=REWARD_AXIS, keepdims=True)
        drop &= jnp.any(terms < -CONFLICT_THRESHOLD, axis=REWARD_AXIS, keepdims=True)
        if mode == "snr":
            total = jnp.sum(terms, axis=REWARD_AXIS, keepdims=True)
            size = jnp.sum(jnp.abs(terms), axis=REWARD_AXIS, keepdims=True)
            drop &= jnp.abs(total) < tau * (size + 1e-8)
        present = jnp.any(flow.valid, axis=REWARD_AXIS, keepdims=True)
        kept = present & ~drop
        members = jnp.sum(present, axis=1, keepdims=True, dtype=terms.dtype)
        share = jnp.sum(kept, axis=1, keepdims=True, dtype=terms.dtype) / jnp.maximum(members, 1)
        dropped = 1 - jnp.sum(kept) / jnp.maximum(jnp.sum(present), 1)
        flow = with_metrics(flow, {"advantage/dropped_conflicts": dropped})
        return dataclasses.replace(
            flow,
            values=terms * share if keep_ratio else terms,
            valid=flow.valid & kept,
        )

    return stateless(update, named("drop_conflicts", mode=mode, tau=tau, keep_ratio=keep_ratio))


def reward_varies(
    rewards: RewardBatch, name: str, *, resolution: Resolution = None
) -> Bool[Array, "B"]:
    """Groups in which one raw reward varies. Raises UserError for an unknown name."""
    if name not in rewards.names:
        raise UserError(f"unknown reward {name!r}; known: {list(rewards.names)}")
    return _any_member(_varying(start_flow(rewards), resolution)[:, :, rewards.names.index(name)])


def any_reward_varies(rewards: RewardBatch, *, resolution: Resolution = None) -> Bool[Array, "B"]:
    """Groups in which at least one raw reward varies: all that can carry GDPO signal."""
    return _any_member(_varying(start_flow(rewards), resolution))


def weighted_sum_varies(
    rewards: RewardBatch, weights: Weights = None, *, resolution: Resolution = None
) -> Bool[Array, "B"]:
    """Groups in which the weighted sum of raw rewards varies: all that can carry GRPO signal."""
    summed = chain(set_resolution(resolution), weigh(weights), combine())
    flow, _ = summed.update(start_flow(rewards), summed.init(rewards.names))
    return _any_member(group_statistics(flow.values, flow.valid, noise=flow.noise).varies)


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
    return _any_member(group_statistics(flow.trace["sum"], flow.trace["sum_valid"]).varies)


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
            varies = group_statistics(flow.values, flow.valid, noise=noise.threshold).varies
        else:
            varies = _varying(flow, resolution)
            varies = varies if on is None else varies[:, :, flow.names.index(on)]
        keep = _any_member(varies)
        counted = _any_member(flow.valid)
        dropped = jnp.sum(counted & ~keep) / jnp.maximum(jnp.sum(counted), 1)
        kept = keep.reshape((-1,) + (1,) * (flow.valid.ndim - 1))
        flow = with_metrics(flow, {"advantage/dropped_groups": dropped})
        return dataclasses.replace(flow, valid=flow.valid & kept)

    return stateless(update, named("drop_silent_groups", on=on, resolution=resolution))


def _varying(flow: Flow, resolution: Resolution) -> Bool[Array, "B 1 K *R"]:
    """Where a raw reward varies, by the resolution given or else by that of the flow."""
    chosen = flow.resolution if resolution is None else per_reward(resolution, flow.names)
    noise = raw_noise(flow.raw, flow.raw_valid, chosen, flow.unit)
    return group_statistics(flow.raw, flow.raw_valid, noise=noise.threshold).varies


def _any_member(varies: Bool[Array, "B *rest"]) -> Bool[Array, "B"]:
    return jnp.any(varies, axis=tuple(range(1, varies.ndim)))


__all__ = [
    "advantage_varies",
    "any_reward_varies",
    "condition",
    "drop_conflicts",
    "drop_silent_groups",
    "reward_varies",
    "weighted_sum_varies",
]
