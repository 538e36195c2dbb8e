"""Composition of transforms, and the one function that runs a composition on a batch of rewards."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdpo_jax.advantages.descriptions import describe
from gdpo_jax.advantages.diagnostics import advantage_metrics, reward_metrics
from gdpo_jax.advantages.records import (
    LARGEST_REWARD,
    Advantages,
    AdvantageTransform,
    AnyArray,
    Flow,
    RewardBatch,
    statistics_dtype,
)
from gdpo_jax.advantages.resolution import per_reward, raw_noise
from gdpo_jax.advantages.statistics import group_statistics
from gdpo_jax.errors import UserError


def chain(*transforms: AdvantageTransform) -> AdvantageTransform:
    """The transforms one after the other; a chain is itself a transform, its state the tuple of
    their states, its description the list of theirs.
    """

    def init(names: tuple[str, ...]) -> tuple[Any, ...]:
        return tuple(transform.init(names) for transform in transforms)

    def update(flow: Flow, state: tuple[Any, ...]) -> tuple[Flow, tuple[Any, ...]]:
        if len(state) != len(transforms):
            raise UserError(
                f"the state has {len(state)} parts for {len(transforms)} transforms; "
                "make it with init(names) of the same chain"
            )
        states = []
        for transform, own in zip(transforms, state, strict=True):
            flow, own = transform.update(flow, own)
            states.append(own)
        return flow, tuple(states)

    return AdvantageTransform(init, update, {"chain": describe(transforms)})


def start_flow(
    rewards: RewardBatch,
    lengths: Float[AnyArray, "B G *R"] | None = None,
    penalty: Float[AnyArray, "B G *P"] | None = None,
) -> Flow:
    """The flow at the head of a chain: statistics dtype, zeros under invalid entries (the mask is
    never NaN), sizes of at most 2^100, so that no sum over a batch overflows.
    """
    _check_shapes(rewards, lengths, penalty)
    values, valid = jnp.asarray(rewards.values), jnp.asarray(rewards.valid)
    shape, items = values.shape[:2], values.shape[3:]
    members = jnp.ones(shape, bool)
    if rewards.sample_valid is not None:
        members = jnp.asarray(rewards.sample_valid)
        valid = valid & members.reshape(shape + (1,) * (values.ndim - 2))
    dtype = statistics_dtype(values.dtype)
    narrow = values.dtype if jnp.issubdtype(values.dtype, jnp.floating) else dtype
    values = jnp.where(valid, values, 0).astype(dtype)
    values = jnp.clip(values, -LARGEST_REWARD, LARGEST_REWARD)
    lengths, penalty = (
        None if x is None else jnp.asarray(x).astype(values.dtype) for x in (lengths, penalty)
    )
    if penalty is not None and penalty.ndim < values.ndim - 1:
        penalty = jnp.broadcast_to(penalty[:, :, None], shape + items)
    return Flow(
        values=values,
        valid=valid,
        raw=values,
        raw_valid=valid,
        lengths=lengths,
        penalty=penalty,
        noise=None,
        members=jnp.broadcast_to(members.reshape(shape + (1,) * len(items)), shape + items),
        metrics={},
        trace={},
        names=rewards.names,
        combined=False,
        centred=False,
        resolution=per_reward(None, rewards.names),
        unit=float(max(jnp.finfo(narrow).eps, jnp.finfo(dtype).eps)),
    )


def _check_shapes(rewards: RewardBatch, lengths: Any, penalty: Any) -> None:
    """Raises UserError for arrays that do not belong to one batch; nothing may be broadcast."""
    shape, names = rewards.values.shape, list(rewards.names)
    if len(shape) not in (3, 4) or shape[2] != len(names):
        raise UserError(
            f"rewards of shape {shape} do not fit the {len(names)} names {names}; expected "
            f"[prompts, samples, {len(names)}] or [prompts, samples, {len(names)}, ranks]"
        )
    samples, items = shape[:2], (*shape[:2], *shape[3:])
    legal = {
        "valid": (rewards.valid, (shape,)),
        "sample_valid": (rewards.sample_valid, (samples,)),
        "lengths": (lengths, (samples, items)),
        "penalty": (penalty, (samples, items)),
    }
    for name, (array, shapes) in legal.items():
        if array is not None and jnp.shape(array) not in shapes:
            expected = " or ".join(str(s) for s in dict.fromkeys(shapes))
            raise UserError(
                f"{name} has shape {jnp.shape(array)}; for rewards of shape {shape} it must be "
                f"{expected}"
            )


def compute_advantages(
    transform: AdvantageTransform,
    rewards: RewardBatch,
    state: Any,
    *,
    lengths: Float[AnyArray, "B G *R"] | None = None,
    penalty: Float[AnyArray, "B G *P"] | None = None,
) -> tuple[Advantages, Any, dict[str, Array]]:
    """Runs `transform` on the rewards of a whole optimiser batch; pure, jit-able with `transform`
    static.

    Call it once on the global batch, before micro-batches are cut: group and batch statistics
    belong to it.
    lengths: tokens per completion `[B, G]` or per item `[B, G, R]`, needed by whitening over tokens
    alone.
    penalty: `[B, G]` or `[B, G, R]`, for a chain with `subtract_penalty` (KL in the reward).
    Returns the advantages (no gradient flows through them), the next state, and scalar metrics.
    Raises UserError for arrays of shapes that do not belong together, and if the transform never
    combines the rewards.
    """
    flow, state = transform.update(start_flow(rewards, lengths, penalty), state)
    if not flow.combined:
        raise UserError(
            "the transform ends with one advantage per reward; put combine() into the chain"
        )
    values = jax.lax.stop_gradient(jnp.where(flow.valid, flow.values, 0))
    noise = raw_noise(flow.raw, flow.raw_valid, flow.resolution, flow.unit)
    metrics = reward_metrics(flow.raw, flow.raw_valid, flow.names, noise.threshold)
    metrics |= advantage_metrics(values, flow.valid) | flow.metrics
    return Advantages(values=values, valid=flow.valid), state, metrics


def per_sample_diagnostics(
    transform: AdvantageTransform,
    rewards: RewardBatch,
    state: Any,
    *,
    lengths: Float[AnyArray, "B G *R"] | None = None,
    penalty: Float[AnyArray, "B G *P"] | None = None,
) -> dict[str, Array]:
    """What a report shows for single completions.

    "z": `[B, G, K, *R]` group z-scores of the raw rewards (GDPO eq. 4, whatever the transform
    does).
    "components": `[B, G, K, *R]` the weighted terms that the transform added up.
    "sum": `[B, G, *R]` their sum, before any normalisation of it (GDPO eq. 5/7).
    "sum_valid": which sums are valid. "advantages": `[B, G, *R]` the outcome.
    """
    flow, _ = transform.update(start_flow(rewards, lengths, penalty), state)
    noise = raw_noise(flow.raw, flow.raw_valid, flow.resolution, flow.unit)
    stats = group_statistics(flow.raw, flow.raw_valid, noise=noise.threshold)
    z = stats.deviation / jnp.where(stats.varies, stats.std, 1)
    advantages = jnp.where(flow.valid, flow.values, 0)
    return {"z": z, **flow.trace, "advantages": advantages}


def with_metrics(flow: Flow, metrics: dict[str, Array], **changes: Any) -> Flow:
    """The flow with further metrics, and with fields replaced."""
    return dataclasses.replace(flow, metrics=flow.metrics | metrics, **changes)
