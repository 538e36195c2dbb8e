"""Advantages on tokens, and means over the tokens of a row or of a segment (list item) of it.

In the shape descriptions, `C` counts the token places of a completion.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.errors import UserError
from gdpo_jax.objectives.shapes import check_shapes


def spread_to_tokens(
    advantages: Float[Array, "B G *R"],
    segment_ids: Int[Array, "B G C"] | None,
    mask: Bool[Array, "B G C"],
) -> Float[Array, "B G C"]:
    """Every token's advantage: that of its completion, or that of the list item it belongs to.

    advantages: `[B, G]`, spread over the whole mask, or `[B, G, R]`, looked up by `segment_ids`.
    segment_ids: rank of the item a token belongs to; -1 (no item) and ranks beyond R get 0
    (Rank-GRPO, arXiv 2510.20150). May be None for `[B, G]`.
    Raises UserError for shapes that do not belong together, and for items without ids.
    """
    if advantages.ndim not in (2, 3) or advantages.shape[:2] != mask.shape[:-1]:
        raise UserError(
            f"advantages have shape {list(advantages.shape)}; for a mask {list(mask.shape)} they "
            "are [B, G], one for each completion, or [B, G, R], one for each item"
        )
    check_shapes(mask=mask, segment_ids=segment_ids)
    if advantages.ndim == 2:
        return jnp.where(mask, advantages[:, :, None], 0)
    if segment_ids is None:
        raise UserError("advantages per item need segment_ids: the item of every token")
    ranks = advantages.shape[2]
    owned = (segment_ids >= 0) & (segment_ids < ranks) & mask
    looked_up = jnp.take_along_axis(advantages, jnp.clip(segment_ids, 0, ranks - 1), axis=2)
    return jnp.where(owned, looked_up, 0)


def pooled_mean(
    values: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
    segment_ids: Int[Array, "*batch C"] | None = None,
    *,
    max_segments: int = 1,
) -> Float[Array, "*batch C"]:
    """The mean over the masked tokens of each token's segment, given back at every token of it.

    Without `segment_ids` a row is one segment. Ids outside [0, max_segments) share one further bin.
    """
    check_shapes(values=values, mask=mask, segment_ids=segment_ids)
    members = _members(mask, segment_ids, max_segments)
    total = jnp.sum(jnp.where(members, values[..., None], 0), axis=-2, keepdims=True)
    mean = total / _counts(members, values.dtype)
    return jnp.sum(jnp.where(members, mean, 0), axis=-1)


def segment_lengths(
    mask: Bool[Array, "*batch C"],
    segment_ids: Int[Array, "*batch C"] | None = None,
    *,
    max_segments: int = 1,
    dtype=jnp.float32,
) -> Float[Array, "*batch C"]:
    """The count of masked tokens in each token's segment, at least 1; bins as in `pooled_mean`."""
    members = _members(mask, segment_ids, max_segments)
    lengths = jnp.sum(jnp.where(members, _counts(members, dtype), 0), axis=-1)
    return jnp.maximum(lengths, 1)


def count_segments(
    mask: Bool[Array, "*batch C"],
    segment_ids: Int[Array, "*batch C"] | None = None,
    *,
    max_segments: int = 1,
) -> Float[Array, ""]:
    """The number of segments with at least one masked token; ids out of range are no segment."""
    members = _members(mask, segment_ids, max_segments)[..., :max_segments]
    return jnp.sum(jnp.any(members, axis=-2), dtype=jnp.float32)


def _members(
    mask: Array, segment_ids: Array | None, max_segments: int
) -> Bool[Array, "*batch C S"]:
    if segment_ids is None:
        return mask[..., None]
    inside = (segment_ids >= 0) & (segment_ids < max_segments)
    bins = jnp.where(inside, segment_ids, max_segments)
    every = jnp.arange(max_segments + 1).reshape((1,) * mask.ndim + (-1,))
    return (bins[..., None] == every) & mask[..., None]


def _counts(members: Bool[Array, "*batch C S"], dtype) -> Float[Array, "*batch 1 S"]:
    return jnp.maximum(jnp.sum(members, axis=-2, keepdims=True, dtype=dtype), 1)
