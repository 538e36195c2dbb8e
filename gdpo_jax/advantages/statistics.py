"""Means and standard deviations that masked members do not touch, in two passes, without overflow.

Two-pass, never `E[x^2] - E[x]^2` (float32 gives sd 4.6e-4 for seven rewards of 0.95), `ddof = 1`
(the worked numbers of GDPO, arXiv 2601.05242, fix it), and an exact-equality guard in place of an
epsilon: in float32 the mean of equal numbers can miss by one ulp, which an eps of 1e-8 turns into
advantages of 0.8.

Each function is compiled by itself, so that what several stages and estimators ask for is traced
once, and a call outside of `jax.jit` is one program and not a hundred operations.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdpo_jax.advantages.records import statistics_dtype

GROUP_AXIS = 1

# Squares of numbers outside [2**-40, 2**40] are summed after scaling by 2**-80 or 2**80 (Blue,
# 1978), so that rewards of 1e30 neither overflow nor need a global maximum, which would cost one
# more all-reduce.
_BIG, _SMALL, _SCALE = 2.0**40, 2.0**-40, 2.0**80
# A corrected sum of squares below this share of the uncorrected one is the rounding error of the
# mean.
_EQUAL_SHARE = 1e-2
# Values spread evenly over a range of r have a standard deviation of 0.29 r.
_NOISE_SHARE = 0.25


class GroupStatistics(NamedTuple):
    """Statistics inside each group, in units of the group's own range, so that nothing can
    overflow.

    deviation: `[B, G, ...]` (value - mean) / range; zero for members that are not valid and
    in groups that do not vary.
    std: `[B, 1, ...]` of value / range. scale: the range (1 where nothing varies). mean: of the
    values.
    count: valid members. varies: at least two valid members that are not all equal.
    """

    deviation: Float[Array, "B G *rest"]
    std: Float[Array, "B 1 *rest"]
    scale: Float[Array, "B 1 *rest"]
    mean: Float[Array, "B 1 *rest"]
    count: Float[Array, "B 1 *rest"]
    varies: Bool[Array, "B 1 *rest"]


class BatchStatistics(NamedTuple):
    """Statistics over the batch, axes kept with size one. std is exactly zero when all valid values
    are equal.

    deviation: value - mean at every valid member, 0 elsewhere; exact to the rounding of the
    deviation itself, not of a mean that may be a million times larger.
    """

    mean: Float[Array, "..."]
    std: Float[Array, "..."]
    count: Float[Array, "..."]
    deviation: Float[Array, "B G *rest"]


@functools.partial(jax.jit, static_argnames="ddof")
def group_statistics(
    values: Float[Array, "B G *rest"],
    valid: Bool[Array, "B G *rest"],
    *,
    ddof: int = 1,
    noise: Float[Array, "B 1 *#rest"] | None = None,
) -> GroupStatistics:
    """Statistics over axis 1. A group whose range is at most `noise` (default 0) counts as all
    equal.
    """
    dtype = statistics_dtype(values.dtype)
    x = jnp.where(valid, values, 0).astype(dtype)
    count = jnp.sum(valid, axis=GROUP_AXIS, keepdims=True, dtype=dtype)
    low = jnp.min(jnp.where(valid, x, jnp.inf), axis=GROUP_AXIS, keepdims=True)
    high = jnp.max(jnp.where(valid, x, -jnp.inf), axis=GROUP_AXIS, keepdims=True)
    low = jnp.where(count > 0, low, 0)
    spread = jnp.where(count > 0, high - low, 0)
    threshold = (
        jnp.finfo(dtype).tiny if noise is None else jnp.maximum(noise, jnp.finfo(dtype).tiny)
    )
    varies = (count >= 2) & (spread > threshold)
    scale = jnp.where(varies, spread, 1)
    counted = valid & varies
    unit = jnp.where(counted, (x - low) / scale, 0)
    unit_mean = jnp.sum(unit, axis=GROUP_AXIS, keepdims=True) / jnp.maximum(count, 1)
    deviation = jnp.where(counted, unit - unit_mean, 0)
    squares = jnp.sum(deviation * deviation, axis=GROUP_AXIS, keepdims=True)
    std = jnp.sqrt(squares / jnp.maximum(count - ddof, 1))
    mean = low + scale * unit_mean
    return GroupStatistics(deviation, std, scale, mean, count, varies)


@functools.partial(jax.jit, static_argnames=("axes", "ddof"))
def batch_statistics(
    values: Float[Array, "B G *rest"],
    valid: Bool[Array, "B G *rest"],
    *,
    axes: tuple[int, ...],
    weights: Float[Array, "B G *rest"] | None = None,
    noise: Float[Array, "B 1 *rest"] | None = None,
    ddof: int = 1,
) -> BatchStatistics:
    """Statistics over `axes` (axis 0 among them), two reductions over the prompt axis in all.

    The sums of each pass are stacked, so that a batch sharded over prompts needs exactly two
    all-reduces. `weights` are non-negative sizes of the samples (tokens).
    noise: differences in each group that are no signal. A standard deviation of at most a quarter
    of their mean counts as zero: the range of a batch, which would decide it sharply, costs one
    more all-reduce.
    """
    dtype = statistics_dtype(values.dtype)
    x = jnp.where(valid, values, 0).astype(dtype)
    sizes = valid.astype(dtype) if weights is None else jnp.where(valid, weights, 0).astype(dtype)

    thresholds = jnp.zeros_like(x) if noise is None else jnp.where(valid, noise, 0)
    total, count, threshold = _sums((x * sizes, sizes, thresholds * sizes), axes)
    first_mean = total / jnp.where(count > 0, count, 1)

    deviation = jnp.where(valid, x - first_mean, 0)
    size = jnp.abs(deviation)
    big, small = size > _BIG, size < _SMALL
    squares = jnp.square(
        jnp.where(big, deviation / _SCALE, jnp.where(small, deviation * _SCALE, deviation))
    )
    squares = squares * sizes
    rest, bigs, mids, smalls = _sums(
        (
            deviation * sizes,
            jnp.where(big, squares, 0),
            jnp.where(big | small, 0, squares),
            jnp.where(small, squares, 0),
        ),
        axes,
    )
    dof = jnp.where(count > ddof, count - ddof, 1)
    std = jnp.where(
        bigs > 0,
        jnp.sqrt((bigs + mids / _SCALE / _SCALE) / dof) * _SCALE,
        jnp.where(
            mids > 0,
            jnp.sqrt((mids + smalls / _SCALE / _SCALE) / dof),
            jnp.sqrt(smalls / dof) / _SCALE,
        ),
    )
    # The corrected two-pass formula: what is left of the sum of deviations is the rounding error of
    # the mean.
    shift = rest / jnp.where(count > 0, count, 1)
    share = 1 - jnp.square(shift / jnp.where(std > 0, std, 1)) * count / dof
    std = jnp.where(
        (share > _EQUAL_SHARE) & (count > ddof), std * jnp.sqrt(jnp.maximum(share, 0)), 0
    )
    std = jnp.where(std > _NOISE_SHARE * threshold / jnp.where(count > 0, count, 1), std, 0)
    # Group-normalised values have mean zero; what rounding leaves of it must not move groups
    # that do not vary.
    mean = first_mean + shift
    centred = jnp.abs(mean) <= 8 * jnp.finfo(dtype).eps * std
    deviation = jnp.where(centred, x, jnp.where(valid, deviation - shift, 0))
    return BatchStatistics(jnp.where(centred, 0, mean), std, count, deviation)


@jax.jit
def from_lowest(
    values: Float[Array, "B G *rest"],
    valid: Bool[Array, "B G *rest"],
    noise: Float[Array, "B 1 *rest"],
) -> tuple[Float[Array, "B 1 *rest"], Float[Array, "B G *rest"]]:
    """The lowest valid value of each group (0 without one), and how far each member is above it.

    A member without a valid value is as far above it as the valid ones are on average: it differs
    from them by nothing. A group whose range is at most `noise` has no differences.
    The subtraction is exact for neighbouring numbers of any size.
    """
    x = jnp.where(valid, values, 0)
    count = jnp.sum(valid, axis=GROUP_AXIS, keepdims=True, dtype=values.dtype)
    low = jnp.min(jnp.where(valid, x, jnp.inf), axis=GROUP_AXIS, keepdims=True)
    low = jnp.where(count > 0, low, 0)
    rise = jnp.where(valid, x - low, 0)
    threshold = jnp.maximum(noise, jnp.finfo(values.dtype).tiny)
    rise = jnp.where(jnp.max(rise, axis=GROUP_AXIS, keepdims=True) > threshold, rise, 0)
    mean = jnp.sum(rise, axis=GROUP_AXIS, keepdims=True) / jnp.maximum(count, 1)
    return low, jnp.where(valid, rise, mean)


@jax.jit
def largest_size(
    values: Float[Array, "B G *rest"], valid: Bool[Array, "B G *rest"]
) -> Float[Array, "B 1 *rest"]:
    """The largest absolute value among the valid members of each group."""
    # From the two reductions that the statistics need as well, which then are compiled once.
    x = jnp.where(valid, values, 0)
    low = jnp.min(jnp.where(valid, x, jnp.inf), axis=GROUP_AXIS, keepdims=True)
    high = jnp.max(jnp.where(valid, x, -jnp.inf), axis=GROUP_AXIS, keepdims=True)
    return jnp.where(low <= high, jnp.maximum(jnp.abs(low), jnp.abs(high)), 0)


def _sums(terms: tuple[Array, ...], axes: tuple[int, ...]) -> tuple[Array, ...]:
    """The sums of several arrays over `axes`, kept with size one, in one reduction over the prompt
    axis.
    """
    local_axes = tuple(axis for axis in axes if axis != 0)
    local = jnp.stack([jnp.sum(term, axis=local_axes, keepdims=True) for term in terms])
    return tuple(jnp.sum(local, axis=1, keepdims=True))
