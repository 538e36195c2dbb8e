"""The verbs of the algebra that remember nothing: normalise or centre in the group, combine,
whiten, clip.

GDPO (arXiv 2601.05242) and GRPO (arXiv 2402.03300) are the same verbs in a different order.
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdpo_jax.advantages.algebra import with_metrics
from gdpo_jax.advantages.diagnostics import component_metrics
from gdpo_jax.advantages.records import AdvantageTransform, Flow, stateless
from gdpo_jax.advantages.statistics import (
    batch_statistics,
    group_statistics,
    rounding_of_sums,
)
from gdpo_jax.errors import UserError

REWARD_AXIS = 2

# A member further from its peers than this counts as this far, so that later sums stay finite.
_FARTHEST = 2.0**100


def group_normalize(
    *, eps: float = 0.0, ddof: int = 1, lone: Literal["zero", "raw"] = "zero"
) -> AdvantageTransform:
    """z = (x - mean) / (sd + eps) inside each group (GDPO eq. 4; on combined rewards GRPO, eq. 2).

    Per reward and, for lists, per rank. Groups with fewer than two valid members or with equal
    values give exactly zero. lone="raw" keeps the raw value of a group of one, as verl does.
    """

    def update(flow: Flow) -> Flow:
        stats = group_statistics(flow.values, flow.valid, ddof=ddof, noise=flow.noise)
        z = stats.deviation / (jnp.where(stats.live, stats.std, 1) + eps / stats.scale)
        if lone == "raw":
            z = jnp.where(flow.valid & (stats.count == 1), flow.values, z)
        return dataclasses.replace(flow, values=z)

    return stateless(update)


def group_center(
    *,
    scale: Literal["none", "batch"] = "none",
    eps: float = 0.0,
    at_least: float | None = None,
) -> AdvantageTransform:
    """x - mean of the group (Dr.GRPO, arXiv 2503.20783).

    scale="batch" divides by sd + eps of the uncentred values over the batch (arXiv 2508.08221;
    TRL's `scale_rewards="batch"`).
    at_least: the baseline is never below it, `x - max(mean, at_least)` (CoRPO, arXiv 2511.04439).
    """

    def update(flow: Flow) -> Flow:
        stats = group_statistics(flow.values, flow.valid, noise=flow.noise)
        centred = stats.deviation * stats.scale
        if at_least is not None:
            baseline = jnp.maximum(stats.mean, at_least)
            raised = jnp.where(flow.valid, flow.values - baseline, 0)
            centred = jnp.where(stats.mean >= at_least, centred, raised)
        if scale == "batch":
            batch = batch_statistics(flow.values, flow.valid, axes=_batch_axes(flow))
            centred = jnp.where(batch.std > 0, centred / _positive(batch.std + eps), 0)
        return dataclasses.replace(flow, values=centred)

    return stateless(update)


def leave_one_out() -> AdvantageTransform:
    """x - mean of the other valid members = (x - mean) * n / (n - 1) (RLOO, arXiv 2402.14740); 0
    for n = 1.
    """

    def update(flow: Flow) -> Flow:
        stats = group_statistics(flow.values, flow.valid, noise=flow.noise)
        factor = stats.count / jnp.maximum(stats.count - 1, 1)
        return dataclasses.replace(flow, values=stats.deviation * stats.scale * factor)

    return stateless(update)


def leave_one_out_normalize(*, eps: float = 0.0) -> AdvantageTransform:
    """(x - mean) / (sd + eps) with the statistics of the other members only (NeMo-RL's default
    baseline).

    Where the others are all equal, or only one is left, the difference stays unscaled. Equality is
    exact, so that seven peers of 0.95 do not become a standard deviation of float noise (NeMo-RL
    #4158). Sizes beyond 2^100, of a member nowhere near its peers, are held there. Time and memory
    O(B G^2 K).
    """

    def update(flow: Flow) -> Flow:
        size = flow.values.shape[1]
        others = ~jnp.eye(size, dtype=bool).reshape((1, size, size) + (1,) * (flow.values.ndim - 2))
        # One group per left-out member: axis 1 runs over the peers, axis 2 over the member left
        # out.
        valid = jnp.expand_dims(flow.valid, 2) & others
        values = jnp.broadcast_to(jnp.expand_dims(flow.values, 2), valid.shape)
        noise = None if flow.noise is None else jnp.expand_dims(flow.noise, 2)
        stats = group_statistics(values, valid, noise=noise)
        std, live = (jnp.squeeze(x, axis=1) for x in (stats.std * stats.scale, stats.live))
        whole = group_statistics(flow.values, flow.valid, noise=flow.noise)
        factor = whole.scale * (whole.count / jnp.maximum(whole.count - 1, 1))
        normal = whole.deviation * factor / jnp.where(live, _positive(std + eps), 1)
        return dataclasses.replace(flow, values=jnp.clip(normal, -_FARTHEST, _FARTHEST))

    return stateless(update)


def combine() -> AdvantageTransform:
    """The sum over rewards of what is valid (GDPO eq. 5); the reward axis is gone afterwards.

    A sample with no valid reward is no longer a valid sample.
    r2 = C - r1 cancels, and no later division may turn the rounding error into signal. Two rules
    make it exactly zero, in units of the dtype's eps: a sum below 2 eps of its own terms, and a
    whole group whose every sum is below 4 K eps of its largest terms. A small sum in a group with
    signal stays what it is; a reward of 1 beside one of 1e30 is lost to the sum itself.
    """

    def update(flow: Flow) -> Flow:
        _require(flow, combined=False, stage="combine()")
        terms = jnp.where(flow.valid, flow.values, 0)
        total = jnp.sum(terms, axis=REWARD_AXIS)
        voters = jnp.any(flow.valid, axis=REWARD_AXIS)
        noise = None
        if len(flow.names) > 1:
            noise = rounding_of_sums(terms)
            size = jnp.abs(total)
            own = 2 * jnp.finfo(terms.dtype).eps * jnp.sum(jnp.abs(terms), axis=REWARD_AXIS)
            # The terms carry the rounding of their own normalisation, a few times that of the sum.
            silent = jnp.max(size, axis=1, keepdims=True) <= 4 * noise
            total = jnp.where(silent | (size <= own), 0, total)
        return with_metrics(
            flow,
            component_metrics(terms, flow.valid, flow.names),
            values=total,
            valid=voters,
            noise=noise,
            trace=flow.trace | {"components": terms, "sum": total, "sum_valid": voters},
            combined=True,
        )

    return stateless(update)


def batch_normalize(
    *,
    over: Literal["sequences", "tokens"] = "sequences",
    dead_groups: Literal["count", "leave_out"] = "count",
    eps: float = 0.0,
    variance_eps: float = 0.0,
    ddof: int = 1,
) -> AdvantageTransform:
    """(A - mean) / (sd + eps) over all valid samples (and ranks) of the batch (GDPO eq. 6).

    The paper's eps has no stated value; 0 needs no guard because equal values are detected exactly.
    over="tokens" lets every sample vote once per token (verl); it needs `lengths`.
    dead_groups: groups without signal are zeros that vote, as in the paper and in all peers;
    "leave_out" is a different method, in which the step does not grow when fewer groups are alive.
    variance_eps is added to the variance instead (verl: 1e-8). Before combine() each reward is
    whitened alone.
    """

    def update(flow: Flow) -> Flow:
        voters, weights = flow.valid, None
        if dead_groups == "leave_out":
            voters = voters & group_statistics(flow.values, flow.valid, noise=flow.noise).live
        if over == "tokens":
            weights = _lengths_like(flow)
        stats = batch_statistics(
            flow.values, voters, axes=_batch_axes(flow), weights=weights, ddof=ddof
        )
        scale = stats.std
        if variance_eps:
            scale = jnp.hypot(scale, jnp.full_like(scale, variance_eps**0.5))
        normal = jnp.where(voters & (stats.std > 0), stats.deviation / _positive(scale + eps), 0)
        metrics = {
            "advantage/batch_mean": jnp.mean(stats.mean),
            "advantage/batch_std": jnp.mean(stats.std),
        }
        return with_metrics(flow, metrics, values=normal, noise=None)

    return stateless(update)


def fill_missing() -> AdvantageTransform:
    """Missing entries become zeros that vote: what NVlabs/GDPO does to rewards and ms-swift to
    sums.

    Samples that `mask_samples` or `reward_batch(sample_valid=...)` took out stay out: they are no
    samples, and padding must not change a result.
    """

    def update(flow: Flow) -> Flow:
        members = flow.members if flow.combined else jnp.expand_dims(flow.members, REWARD_AXIS)
        return dataclasses.replace(
            flow,
            values=jnp.where(flow.valid, flow.values, 0),
            valid=jnp.broadcast_to(members, flow.valid.shape),
        )

    return stateless(update)


def clip(limit: float) -> AdvantageTransform:
    """Clamps to [-limit, limit] (NeMo-RL, ROLL). Raises UserError unless limit > 0."""
    if not limit > 0:
        raise UserError(f"clip({limit}): the limit must be positive")
    return stateless(
        lambda flow: dataclasses.replace(flow, values=jnp.clip(flow.values, -limit, limit))
    )


def _batch_axes(flow: Flow) -> tuple[int, ...]:
    keep = () if flow.combined else (REWARD_AXIS,)
    return tuple(axis for axis in range(flow.values.ndim) if axis not in keep)


def _lengths_like(flow: Flow) -> Float[Array, "B G *rest"]:
    if flow.lengths is None:
        raise UserError('whitening over="tokens" needs compute_advantages(..., lengths=[B, G])')
    lengths = flow.lengths
    if not flow.combined:
        lengths = jnp.expand_dims(lengths, REWARD_AXIS)
    if lengths.ndim != flow.values.ndim:
        raise UserError(
            f"lengths of shape {flow.lengths.shape} do not fit advantages {flow.values.shape}; "
            "per-item rewards need tokens per item, [B, G, R]"
        )
    return jnp.broadcast_to(lengths, flow.values.shape)


def _positive(scale: Array) -> Array:
    return jnp.where(scale > 0, scale, 1)


def _require(flow: Flow, *, combined: bool, stage: str) -> None:
    if flow.combined != combined:
        when = "after" if combined else "before"
        raise UserError(f"{stage} must stand {when} combine() in the chain")
