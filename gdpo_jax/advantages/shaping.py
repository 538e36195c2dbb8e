"""Further terms and masks on a batch of rewards: length penalties, KL in the reward, filtered
samples.

A further term is one more reward component, so that it is normalised on its own; GDPO's point.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Real

from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.records import AdvantageTransform, AnyArray, Flow, RewardBatch
from gdpo_jax.errors import UserError


def append_reward(
    rewards: RewardBatch,
    name: str,
    values: Real[AnyArray, "B G *R"],
    valid: Bool[AnyArray, "B G *R"] | None = None,
) -> RewardBatch:
    """One more reward column. With per-item rewards, `[B, G]` values stand at every item.

    KL in the reward, decoupled: `append_reward(rewards, "kl", -sequence_kl)` and a weight for it.
    Samples that were masked stay masked. Rewards and values of two dtypes become float32, or
    float64 if that is enabled and one of them has it.
    Raises UserError if the name is taken, or for values or valid of another shape.
    """
    if name in rewards.names:
        raise UserError(f"there is a reward {name!r} already; names: {list(rewards.names)}")
    shape = rewards.values.shape
    for what, array in (("values", values), ("valid", valid)):
        if array is not None and jnp.shape(array) not in (shape[:2], shape[:2] + shape[3:]):
            raise UserError(
                f"{what} of reward {name!r} have shape {jnp.shape(array)}; for rewards of shape "
                f"{shape} they must be [B, G]" + (" or [B, G, ranks]" if shape[3:] else "")
            )
    columns, column = jnp.asarray(rewards.values), jnp.asarray(values)
    if columns.dtype != column.dtype:
        wide = jnp.float64 in (columns.dtype, column.dtype)
        dtype = jnp.float64 if wide else jnp.float32
        columns, column = columns.astype(dtype), column.astype(dtype)
    counted = jnp.isfinite(column) if valid is None else jnp.asarray(valid)
    column, counted = (
        jnp.broadcast_to(_as_column(x, len(shape)), (*shape[:2], 1, *shape[3:]))
        for x in (column, counted)
    )
    if rewards.sample_valid is not None:
        counted = counted & _as_column(jnp.asarray(rewards.sample_valid), len(shape))
    return RewardBatch(
        values=jnp.concatenate([columns, column], axis=2),
        valid=jnp.concatenate([jnp.asarray(rewards.valid), counted], axis=2),
        names=(*rewards.names, name),
        sample_valid=rewards.sample_valid,
    )


def mask_samples(
    rewards: RewardBatch, keep: Bool[AnyArray, "B"] | Bool[AnyArray, "B G"]
) -> RewardBatch:
    """The batch in which samples (or whole groups) that are not kept enter no statistics and get no
    advantage.

    Overlong filter (DAPO, arXiv 2503.14476): `mask_samples(rewards, finished)` takes completions
    without a stop token out; leaving them in and zeroing their loss mask keeps them in the
    statistics.
    Raises UserError for a mask of another shape.
    """
    if jnp.shape(keep) not in (_samples(rewards), _samples(rewards)[:1]):
        raise UserError(
            f"keep has shape {jnp.shape(keep)}; it must be [B] or [B, G] = {_samples(rewards)}"
        )
    keep = jnp.asarray(keep)
    keep = jnp.broadcast_to(keep.reshape(keep.shape + (1,) * (2 - keep.ndim)), _samples(rewards))
    if rewards.sample_valid is not None:
        keep = keep & jnp.asarray(rewards.sample_valid)
    valid = jnp.asarray(rewards.valid) & keep.reshape(keep.shape + (1,) * (rewards.values.ndim - 2))
    return dataclasses.replace(rewards, valid=valid, sample_valid=keep)


def overlong_penalty(
    lengths: Float[AnyArray, "*shape"], *, max_length: int, buffer: int, factor: float = 1.0
) -> Float[Array, "*shape"]:
    """`min(-(length - (max_length - buffer)) / buffer * factor, 0)` in tokens (DAPO, eq. 13).

    Not clipped beyond max_length. Under GDPO it is one more reward (`append_reward`), not part of a
    sum.
    Raises UserError unless 0 < buffer <= max_length.
    """
    if not 0 < buffer <= max_length:
        raise UserError(f"overlong buffer={buffer} must lie in [1, max_length={max_length}]")
    over = jnp.asarray(lengths, jnp.float32) - (max_length - buffer)
    return jnp.minimum(-over / buffer * factor, 0)


class PenaltyState(NamedTuple):
    """coefficient: factor on the penalty; replace it to change it without a new compilation."""

    coefficient: Float[Array, ""]


def subtract_penalty(coefficient: float) -> AdvantageTransform:
    """`A_sum - coefficient * penalty`, after combine() and before the batch norm.

    KL in the reward, after the sum: give `compute_advantages(..., penalty=sequence_kl)`. Peers drop
    the KL term silently when GDPO is on; the other explicit place is one more decoupled reward.
    Raises UserError before combine(), or if no penalty was given.
    """

    def init(names: tuple[str, ...]) -> PenaltyState:
        return PenaltyState(coefficient=jnp.float32(coefficient))

    def update(flow: Flow, state: PenaltyState) -> tuple[Flow, PenaltyState]:
        if not flow.combined:
            raise UserError("subtract_penalty() must stand after combine()")
        if flow.penalty is None:
            raise UserError("subtract_penalty() needs compute_advantages(..., penalty=[B, G])")
        shift = state.coefficient.astype(flow.values.dtype) * flow.penalty
        values = jnp.where(flow.valid, flow.values - shift, 0)
        largest = jnp.max(jnp.where(flow.valid, jnp.abs(shift), 0), axis=1, keepdims=True)
        noise = jnp.finfo(values.dtype).eps * largest
        noise = noise if flow.noise is None else noise + flow.noise
        return dataclasses.replace(flow, values=values, noise=noise), state

    return AdvantageTransform(init, update, named("subtract_penalty", coefficient=coefficient))


def _samples(rewards: RewardBatch) -> tuple[int, int]:
    return rewards.values.shape[0], rewards.values.shape[1]


def _as_column(x: Array | np.ndarray, ndim: int) -> Array:
    x = jnp.expand_dims(x, 2)
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))
