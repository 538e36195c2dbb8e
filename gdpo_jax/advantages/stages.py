"""The verbs of the algebra that remember nothing: normalise or centre in the group, combine,
whiten, clip.

GDPO (arXiv 2601.05242) and GRPO (arXiv 2402.03300) are the same verbs in a different order.
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdpo_jax.advantages.algebra import with_metrics
from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.diagnostics import component_metrics
from gdpo_jax.advantages.records import AdvantageTransform, Flow, stateless
from gdpo_jax.advantages.resolution import (
    Noise,
    Resolution,
    measure,
    resolved,
)
from gdpo_jax.advantages.statistics import (
    GROUP_AXIS,
    GroupStatistics,
    batch_statistics,
    from_lowest,
    group_statistics,
    largest_size,
)
from gdpo_jax.errors import UserError

REWARD_AXIS = 2

# A member further from its peers than this counts as this far, so that later sums stay finite.
_FARTHEST = 2.0**100


def group_normalize(
    *,
    eps: float = 0.0,
    ddof: int = 1,
    lone: Literal["zero", "raw"] = "zero",
    resolution: Resolution = None,
) -> AdvantageTransform:
    """z = (x - mean) / (sd + eps) inside each group (GDPO eq. 4; on combined rewards GRPO, eq. 2).

    Per reward and, for lists, per rank. Groups with fewer than two valid members, and groups whose
    values differ by no more than `resolution` (see `set_resolution`), give exactly zero.
    lone="raw" keeps the raw value of a group of one, as verl does.
    """

    def update(flow: Flow) -> Flow:
        flow, noise = measure(flow, resolution)
        stats = group_statistics(flow.values, flow.valid, ddof=ddof, noise=noise.threshold)
        std = jnp.where(stats.varies, stats.std, 1) + eps / stats.scale
        z = stats.deviation / std
        # Errors of at most half of `error` in each value: two deviations are off by `error / sd`
        # against each other, and the sd by `error / 2 * sqrt(n / (n - 1))`, with n = 2 exact.
        error = noise.error / (std * stats.scale) * (1 + 0.62 / std)
        error = _settled(error, 1 / std, stats.varies)
        if lone == "raw":
            z = jnp.where(flow.valid & (stats.count == 1), flow.values, z)
        return dataclasses.replace(flow, values=z, noise=error, centred=True)

    about = named("group_normalize", eps=eps, ddof=ddof, lone=lone, resolution=resolution)
    return stateless(update, about)


def group_center(
    *,
    scale: Literal["none", "batch"] = "none",
    eps: float = 0.0,
    at_least: float | None = None,
    resolution: Resolution = None,
) -> AdvantageTransform:
    """x - mean of the group (Dr.GRPO, arXiv 2503.20783).

    scale="batch" divides by sd + eps of the uncentred values over the batch (arXiv 2508.08221;
    TRL's `scale_rewards="batch"`).
    at_least: the baseline is never below it, `x - max(mean, at_least)` (CoRPO, arXiv 2511.04439).
    resolution: as in `group_normalize`.
    """

    def update(flow: Flow) -> Flow:
        flow, noise = measure(flow, resolution)
        stats = group_statistics(flow.values, flow.valid, noise=noise.threshold)
        moved = centred_in_group(flow, stats, noise)
        centred, error = moved.values, moved.noise
        if at_least is not None:
            baseline = jnp.maximum(stats.mean, at_least)
            raised = jnp.where(flow.valid, flow.values - baseline, 0)
            centred = jnp.where(stats.mean >= at_least, centred, raised)
        if scale == "batch":
            batch = batch_statistics(
                flow.values, flow.valid, axes=_batch_axes(flow), noise=noise.threshold
            )
            divisor = _positive(batch.std + eps)
            centred = jnp.where(batch.std > 0, centred / divisor, 0)
            error = jnp.where(batch.std > 0, error / divisor, 0)
        return dataclasses.replace(flow, values=centred, noise=error, centred=at_least is None)

    about = named("group_center", scale=scale, eps=eps, at_least=at_least, resolution=resolution)
    return stateless(update, about)


def leave_one_out(*, resolution: Resolution = None) -> AdvantageTransform:
    """x - mean of the other valid members = (x - mean) * n / (n - 1) (RLOO, arXiv 2402.14740); 0
    for n = 1. resolution: as in `group_normalize`.
    """

    def update(flow: Flow) -> Flow:
        flow, noise = measure(flow, resolution)
        stats = group_statistics(flow.values, flow.valid, noise=noise.threshold)
        factor = stats.count / jnp.maximum(stats.count - 1, 1)
        flow = centred_in_group(flow, stats, noise)
        return dataclasses.replace(flow, values=flow.values * factor, noise=flow.noise * factor)

    return stateless(update, named("leave_one_out", resolution=resolution))


def leave_one_out_normalize(
    *, eps: float = 0.0, resolution: Resolution = None
) -> AdvantageTransform:
    """(x - mean) / (sd + eps) with the statistics of the other members only (NeMo-RL's default
    baseline).

    Where the others are all equal, or only one is left, the difference stays unscaled. Others that
    differ by no more than `resolution` (see `set_resolution`) are equal, so that seven peers of
    0.95 do not become a standard deviation of float noise (NeMo-RL #4158). Sizes beyond 2^100, of a
    member nowhere near its peers, are held there. Time and memory O(B G^2 K).
    """

    def update(flow: Flow) -> Flow:
        flow, noise = measure(flow, resolution)
        size = flow.values.shape[1]
        others = ~jnp.eye(size, dtype=bool).reshape((1, size, size) + (1,) * (flow.values.ndim - 2))
        # One group per left-out member: axis 1 runs over the peers, axis 2 over the member left
        # out.
        valid = jnp.expand_dims(flow.valid, 2) & others
        values = jnp.broadcast_to(jnp.expand_dims(flow.values, 2), valid.shape)
        stats = group_statistics(values, valid, noise=jnp.expand_dims(noise.threshold, 2))
        std, varies = (jnp.squeeze(x, axis=1) for x in (stats.std * stats.scale, stats.varies))
        whole = group_statistics(flow.values, flow.valid, noise=noise.threshold)
        factor = whole.count / jnp.maximum(whole.count - 1, 1)
        divisor = jnp.where(varies, _positive(std + eps), 1)
        normal = whole.deviation * (whole.scale * factor) / divisor
        normal = jnp.clip(normal, -_FARTHEST, _FARTHEST)
        error = jnp.where(varies, jnp.abs(normal) / divisor, 0) + factor / divisor
        error = jnp.where(flow.valid, error * noise.error, 0)
        error = jnp.max(error, axis=GROUP_AXIS, keepdims=True)
        error = _settled(error, largest_size(normal, flow.valid), whole.varies)
        return dataclasses.replace(flow, values=normal, noise=error, centred=True)

    return stateless(update, named("leave_one_out_normalize", eps=eps, resolution=resolution))


def combine(
    *, missing: Literal["neutral", "zero"] = "neutral", resolution: Resolution = None
) -> AdvantageTransform:
    """The sum over rewards (GDPO eq. 5); the reward axis is gone afterwards.

    A sample with no valid reward is no longer a valid sample. A reward that a sample lacks adds
    nothing relative to the group: 0 if the rewards were normalised or centred in the group before,
    the mean of the group's valid values if not, and 0 where the whole group lacks it.
    missing="zero" counts it as 0 in any case, as the peers do.
    resolution: as in `group_normalize`, for rewards that no stage has normalised or centred.

    r_2 = C - r_1 cancels, and no later division may turn the rounding error into signal: a group
    whose sums differ by no more than the error that the terms bring and the sum adds gets equal
    sums, 0 if they are that close to 0. The bound is on differences, not on sizes: terms of 1000
    that cancel to 0.001 are signal. A reward of 1 beside one of 1e30 is lost to the sum itself.
    """

    def update(flow: Flow) -> Flow:
        _require(flow, combined=False, stage="combine()")
        terms = jnp.where(flow.valid, flow.values, 0)
        counted = jnp.any(flow.valid, axis=REWARD_AXIS)
        if flow.centred:
            total, noise = _sum_of_centred(flow, terms)
        else:
            flow = resolved(flow, resolution)
            total, noise = _sum_of_rewards(flow, missing)
        low = jnp.min(jnp.where(counted, total, jnp.inf), axis=GROUP_AXIS, keepdims=True)
        high = jnp.max(jnp.where(counted, total, -jnp.inf), axis=GROUP_AXIS, keepdims=True)
        near_zero = jnp.maximum(jnp.abs(low), jnp.abs(high)) <= noise
        total = jnp.where(high - low <= noise, jnp.where(near_zero, 0, low), total)
        total = jnp.where(counted, total, 0)
        return with_metrics(
            flow,
            component_metrics(terms, flow.valid, flow.names),
            values=total,
            valid=counted,
            noise=noise,
            trace=flow.trace | {"components": terms, "sum": total, "sum_valid": counted},
            combined=True,
        )

    return stateless(update, named("combine", missing=missing, resolution=resolution))


def batch_center(*, resolution: Resolution = None) -> AdvantageTransform:
    """x - mean over all valid samples (and ranks) of the batch, each reward alone before combine().

    In front of a sum of rewards that is normalised over the batch alone, it makes 0 the neutral
    value for groups in which nobody has a reward. resolution: as in `batch_normalize`.
    """

    def update(flow: Flow) -> Flow:
        _require(flow, combined=False, stage="batch_center()")
        flow, noise = measure(flow, resolution)
        flow = resolved(flow)
        stats = batch_statistics(
            flow.values, flow.valid, axes=_batch_axes(flow), noise=noise.threshold
        )
        return dataclasses.replace(flow, values=jnp.where(stats.std > 0, stats.deviation, 0))

    return stateless(update, named("batch_center", resolution=resolution))


def batch_normalize(
    *,
    over: Literal["sequences", "tokens"] = "sequences",
    dead_groups: Literal["count", "leave_out"] = "count",
    eps: float = 0.0,
    variance_eps: float = 0.0,
    ddof: int = 1,
    resolution: Resolution = None,
) -> AdvantageTransform:
    """(A - mean) / (sd + eps) over all valid samples (and ranks) of the batch (GDPO eq. 6).

    The paper's eps has no stated value; 0 needs no guard: a batch whose standard deviation is at
    most a quarter of `resolution` (the mean over its samples, see `set_resolution`) gives exactly
    zero.
    over="tokens" counts every sample once per token (verl); it needs `lengths`.
    dead_groups: groups without signal are zeros that count, as in the paper and in all peers;
    "leave_out" is a different method, in which the step does not grow when fewer groups vary.
    variance_eps is added to the variance instead (verl: 1e-8). Before combine() each reward is
    whitened alone.
    """

    def update(flow: Flow) -> Flow:
        flow, noise = measure(flow, resolution)
        if not flow.combined:
            flow = resolved(flow)
        counted, weights = flow.valid, None
        if dead_groups == "leave_out":
            counted = (
                counted & group_statistics(flow.values, flow.valid, noise=noise.threshold).varies
            )
        if over == "tokens":
            weights = _lengths_like(flow)
        stats = batch_statistics(
            flow.values,
            counted,
            axes=_batch_axes(flow),
            weights=weights,
            noise=noise.threshold,
            ddof=ddof,
        )
        scale = stats.std
        if variance_eps:
            scale = jnp.hypot(scale, jnp.full_like(scale, variance_eps**0.5))
        scale = _positive(scale + eps)
        normal = jnp.where(counted & (stats.std > 0), stats.deviation / scale, 0)
        metrics = {
            "advantage/batch_mean": jnp.mean(stats.mean),
            "advantage/batch_std": jnp.mean(stats.std),
        }
        own = noise.error if flow.noise is None else flow.noise
        error = jnp.where(stats.std > 0, own / scale, 0)
        return with_metrics(flow, metrics, values=normal, noise=error)

    about = named(
        "batch_normalize",
        over=over,
        dead_groups=dead_groups,
        eps=eps,
        variance_eps=variance_eps,
        ddof=ddof,
        resolution=resolution,
    )
    return stateless(update, about)


def fill_missing() -> AdvantageTransform:
    """Missing entries become zeros that count: what NVlabs/GDPO does to rewards and ms-swift to
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

    return stateless(update, named("fill_missing"))


def clip(limit: float) -> AdvantageTransform:
    """Clamps to [-limit, limit] (NeMo-RL, ROLL). Raises UserError unless limit > 0."""
    if not limit > 0:
        raise UserError(f"clip({limit}): the limit must be positive")
    return stateless(
        lambda flow: dataclasses.replace(flow, values=jnp.clip(flow.values, -limit, limit)),
        named("clip", limit=limit),
    )


def centred_in_group(flow: Flow, stats: GroupStatistics, noise: Noise) -> Flow:
    """The flow with x - mean of the group; exactly 0 in groups without signal.

    The error of single rewards counts twice, since weights in front of the stage round once more.
    """
    centred = stats.deviation * stats.scale
    error = noise.error if flow.combined else 2 * noise.error
    error = _settled(error, stats.scale, stats.varies)
    return dataclasses.replace(flow, values=centred, noise=error, centred=True)


def _sum_of_centred(flow: Flow, terms: Array) -> tuple[Array, Array]:
    """The sum of terms to which a missing reward adds 0, and its noise: that of the terms, and of
    K additions, each off by at most half an eps of a partial sum.
    """
    total = jnp.sum(terms, axis=REWARD_AXIS)
    noise = jnp.sum(flow.noise, axis=REWARD_AXIS)
    if len(flow.names) > 1:
        size = jnp.max(jnp.sum(jnp.abs(terms), axis=REWARD_AXIS), axis=GROUP_AXIS, keepdims=True)
        noise = noise + len(flow.names) * jnp.finfo(terms.dtype).eps * size
    return total, noise


def _sum_of_rewards(flow: Flow, missing: str) -> tuple[Array, Array]:
    """The sum of resolved rewards, and its noise.

    Offsets and differences are added apart, so that a sum of offsets that cancel costs the
    differences nothing. The noise of the differences is that of the rewards that differ (where none
    does, of all), twice, since weights round once more, and of K additions of differences and the
    one of the offset.
    """
    values, valid, noise = flow.values, flow.valid, flow.noise
    if missing == "zero":
        values = jnp.where(valid, values, 0)
        valid = jnp.broadcast_to(jnp.any(valid, axis=REWARD_AXIS, keepdims=True), valid.shape)
    low, rise = from_lowest(values, valid, jnp.zeros_like(noise))
    differs = jnp.any(rise > 0, axis=GROUP_AXIS, keepdims=True)
    noise = jnp.where(
        jnp.any(differs, axis=REWARD_AXIS),
        jnp.sum(jnp.where(differs, 2 * noise, 0), axis=REWARD_AXIS),
        jnp.sum(noise, axis=REWARD_AXIS),
    )
    if len(flow.names) == 1:
        return jnp.squeeze(jnp.where(valid, values, 0), axis=REWARD_AXIS), noise
    eps = jnp.finfo(values.dtype).eps
    rises = jnp.sum(rise, axis=REWARD_AXIS)
    total = jnp.sum(low, axis=REWARD_AXIS) + rises
    counted = jnp.any(valid, axis=REWARD_AXIS)
    noise = noise + len(flow.names) * eps * jnp.max(rises, axis=GROUP_AXIS, keepdims=True)
    return total, noise + eps * largest_size(total, counted)


def _settled(error: Array, size: Array, varies: Array) -> Array:
    """The noise of normalised or centred values of at most `size`: what their input brought, and
    the rounding of the statistics; none in groups without signal, which are exactly zero.
    """
    return jnp.where(varies, error + 8 * jnp.finfo(size.dtype).eps * size, 0)


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
