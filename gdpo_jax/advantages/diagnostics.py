"""Scalars with stable names that show a reward designer what the rewards and the advantages do.

Every metric is a function of the global batch. Shares and rates are over valid entries only. As in
`statistics.py`, each function is compiled by itself.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdpo_jax.advantages.statistics import batch_statistics, group_statistics

# Two advantages closer than this share of the largest one count as the same value.
DISTINCT_TOLERANCE = 4e-6
# A component smaller than this share of its group's largest neither conflicts nor cancels.
CONFLICT_TOLERANCE = 1e-6


@functools.partial(jax.jit, static_argnames="names")
def reward_metrics(
    raw: Float[Array, "B G K *R"],
    valid: Bool[Array, "B G K *R"],
    names: tuple[str, ...],
    noise: Float[Array, "B 1 K *R"],
) -> dict[str, Array]:
    """Per reward: mean, std, min, max, missing and zero-variance fractions; and groups with no
    signal at all.

    "reward/{name}/zero_variance_fraction": share of groups (of group-ranks) with a valid value
    whose values differ by no more than `noise`.
    "zero_variance_fraction": share of groups in which every reward is degenerate, the only groups
    that carry no GDPO signal.
    """
    axes = (0, 1) + tuple(range(3, raw.ndim))
    stats = batch_statistics(raw, valid, axes=axes)
    groups = group_statistics(raw, valid, noise=noise)
    low = jnp.min(jnp.where(valid, raw, jnp.inf), axis=axes)
    high = jnp.max(jnp.where(valid, raw, -jnp.inf), axis=axes)
    counted = groups.count > 0
    constant = _ratio(jnp.sum(counted & ~groups.varies, axis=axes), jnp.sum(counted, axis=axes))
    missing = 1 - jnp.mean(valid.astype(raw.dtype), axis=axes)
    mean, std, count = (jnp.ravel(x) for x in stats[:3])
    low, high = (jnp.where(count > 0, x, 0) for x in (low, high))
    metrics = {}
    for k, name in enumerate(names):
        metrics[f"reward/{name}/mean"] = mean[k]
        metrics[f"reward/{name}/std"] = std[k]
        metrics[f"reward/{name}/min"] = low[k]
        metrics[f"reward/{name}/max"] = high[k]
        metrics[f"reward/{name}/missing_fraction"] = missing[k]
        metrics[f"reward/{name}/zero_variance_fraction"] = constant[k]
    signal_axes = tuple(range(1, raw.ndim))
    metrics["zero_variance_fraction"] = _ratio(
        jnp.sum(jnp.any(counted, axis=signal_axes) & ~jnp.any(groups.varies, axis=signal_axes)),
        jnp.sum(jnp.any(counted, axis=signal_axes)),
    )
    return metrics


@functools.partial(jax.jit, static_argnames="names")
def component_metrics(
    components: Float[Array, "B G K *R"], valid: Bool[Array, "B G K *R"], names: tuple[str, ...]
) -> dict[str, Array]:
    """How the weighted terms of a sum work with and against each other, after centring in the
    group.

    "advantage/share/{name}": the reward's part of the sum of absolute terms.
    "advantage/conflict_rate": share of samples with a positive and a negative term.
    "advantage/cancellation_rate": share of samples with non-zero terms whose sum is zero.
    """
    groups = group_statistics(components, valid)
    terms = groups.deviation * groups.scale
    size = jnp.abs(terms)
    sample_valid = jnp.any(valid, axis=2)
    threshold = CONFLICT_TOLERANCE * jnp.max(size, axis=(1, 2), keepdims=True)
    conflict = jnp.any(terms > threshold, axis=2) & jnp.any(terms < -threshold, axis=2)
    nonzero = jnp.any(size > threshold, axis=2)
    cancelled = nonzero & (jnp.abs(jnp.sum(terms, axis=2)) <= jnp.squeeze(threshold, axis=2))
    # In units of the largest term, so that the sum over a batch of huge rewards stays finite.
    unit = size / jnp.maximum(jnp.max(size), jnp.finfo(size.dtype).tiny)
    per_reward = jnp.sum(unit, axis=(0, 1) + tuple(range(3, unit.ndim)))
    share = _ratio(per_reward, jnp.sum(per_reward))
    samples = jnp.sum(sample_valid)
    metrics = {f"advantage/share/{name}": share[k] for k, name in enumerate(names)}
    metrics["advantage/conflict_rate"] = _ratio(jnp.sum(conflict & sample_valid), samples)
    metrics["advantage/cancellation_rate"] = _ratio(jnp.sum(cancelled & sample_valid), samples)
    return metrics


@jax.jit
def advantage_metrics(
    values: Float[Array, "B G *R"], valid: Bool[Array, "B G *R"]
) -> dict[str, Array]:
    """Size and variety of the final advantages.

    "advantage/distinct": number of different values in the batch. "advantage/distinct_per_group":
    its mean inside a group; GRPO on summed rewards collapses it. "advantage/batch_mean" and
    "advantage/batch_std" are those of the final values unless a batch-normalising stage reports the
    ones it divided by.
    """
    stats = batch_statistics(values, valid, axes=tuple(range(values.ndim)))
    size = jnp.where(valid, jnp.abs(values), 0)
    count = jnp.sum(valid)
    tolerance = DISTINCT_TOLERANCE * jnp.max(size)
    per_group = _count_distinct_in_groups(values, valid, tolerance)
    counted = jnp.any(valid, axis=1)
    return {
        "advantage/abs_mean": _ratio(jnp.sum(size), count),
        "advantage/min": jnp.where(count > 0, jnp.min(jnp.where(valid, values, jnp.inf)), 0),
        "advantage/max": jnp.where(count > 0, jnp.max(jnp.where(valid, values, -jnp.inf)), 0),
        "advantage/nonzero_fraction": _ratio(jnp.sum(size > 0), count),
        "advantage/valid_fraction": jnp.mean(valid.astype(values.dtype)),
        "advantage/batch_mean": jnp.ravel(stats.mean)[0],
        "advantage/batch_std": jnp.ravel(stats.std)[0],
        "advantage/distinct": _count_distinct(
            _gathered(jnp.ravel(values)), _gathered(jnp.ravel(valid)), tolerance
        ).astype(values.dtype),
        "advantage/distinct_per_group": _ratio(jnp.sum(per_group), jnp.sum(counted)),
    }


def _count_distinct(values: Array, valid: Array, tolerance: Array) -> Array:
    """Runs of sorted values `[N]` in which no step is larger than the tolerance."""
    ordered = jnp.sort(jnp.where(valid, values, jnp.inf))
    steps = jnp.isfinite(ordered[1:]) & (ordered[1:] - ordered[:-1] > tolerance)
    return jnp.where(jnp.any(valid), 1 + jnp.sum(steps), 0)


def _count_distinct_in_groups(values: Array, valid: Array, tolerance: Array) -> Array:
    """The same in each group, `[B *R]`: members that begin a run, having none close below them.

    A group is small, and G^2 comparisons of it cost less than a sort.
    """
    value, other = values[:, :, None], values[:, None]
    pairs = jnp.broadcast_shapes(value.shape, other.shape)
    member, before = (jax.lax.broadcasted_iota(jnp.int32, pairs, axis) for axis in (1, 2))
    # Of equal members the first one begins the run.
    equal = (other == value) & (before < member)
    below = (other < value) & (value - other <= tolerance)
    joined = jnp.any((equal | below) & valid[:, None], axis=2)
    return jnp.sum(valid & ~joined, axis=1)


def _gathered(x: Array) -> Array:
    """A sort cannot run over an axis that an explicit mesh has cut; elsewhere this is nothing."""
    sharding = jax.typeof(x).sharding
    if all(axis is None for axis in sharding.spec):
        return x
    return jax.reshard(x, jax.NamedSharding(sharding.mesh, jax.P(*(None,) * x.ndim)))


def _ratio(part: Array, whole: Array) -> Array:
    dtype = part.dtype if jnp.issubdtype(part.dtype, jnp.floating) else jnp.float32
    return part.astype(dtype) / jnp.where(whole > 0, whole, 1).astype(dtype)
