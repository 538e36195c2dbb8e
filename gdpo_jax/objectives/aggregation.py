"""From per-token losses to one number, with denominators that belong to the whole optimiser batch.

Divide every micro-batch by the same global counts and add the results: the loss then depends
neither on the number of devices, nor on micro-batching, nor on padding.
"""

from typing import Literal

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.errors import UserError
from gdpo_jax.objectives.shapes import check_shapes
from gdpo_jax.objectives.tokens import count_segments, segment_lengths

Aggregation = Literal["grpo", "bnpo", "dapo", "dr_grpo", "sequence_sum", "token_sum", "item_mean"]
AGGREGATIONS = ("grpo", "bnpo", "dapo", "dr_grpo", "sequence_sum", "token_sum", "item_mean")


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Denominators:
    """Counts over the whole optimiser batch: all devices, all micro-batches. float32 scalars.

    tokens: loss tokens. sequences: completions with at least one loss token. items: list items with
    at least one loss token (equal to sequences where no item ids were given).
    """

    tokens: Float[Array, ""]
    sequences: Float[Array, ""]
    items: Float[Array, ""]


def count_denominators(
    mask: Bool[Array, "*batch C"],
    segment_ids: Int[Array, "*batch C"] | None = None,
    *,
    max_segments: int = 64,
) -> Denominators:
    """Counts the loss tokens, non-empty sequences and items of `mask`; at least one each.

    Call it once, on the mask of the whole optimiser batch, before the loop over micro-batches.
    """
    check_shapes(mask=mask, segment_ids=segment_ids)
    sequences = count_segments(mask)
    items = sequences
    if segment_ids is not None:
        items = count_segments(mask, segment_ids, max_segments=max_segments)
    tokens = jnp.sum(mask, dtype=jnp.float32)
    return Denominators(
        tokens=jnp.maximum(tokens, 1),
        sequences=jnp.maximum(sequences, 1),
        items=jnp.maximum(items, 1),
    )


def token_weights(
    mask: Bool[Array, "*batch C"],
    denominators: Denominators,
    *,
    aggregation: Aggregation = "dapo",
    max_length: int | None = None,
    segment_ids: Int[Array, "*batch C"] | None = None,
    max_segments: int = 64,
    dtype=jnp.float32,
) -> Float[Array, "*batch C"]:
    """What each token's loss is multiplied by; the aggregated loss is the sum of the products.

    "dapo", "bnpo": 1 / tokens (token mean; TRL's "bnpo" counts the tokens of the micro-batch alone,
    which is this with `count_denominators` of the micro-batch).
    "grpo": 1 / (length of its sequence * sequences). "dr_grpo": 1 / (max_length * sequences), a
    constant in place of the length (arXiv 2503.20783). "sequence_sum": 1 / sequences. "token_sum":
    1.
    "item_mean": 1 / (length of its item * items), the objective in the Rank-GRPO paper (arXiv
    2510.20150; its released code uses the token mean); tokens outside every item weigh 0.
    max_length, segment_ids and max_segments are read by the aggregations named with them alone.
    Raises UserError for an unknown name, shapes that differ, or an input that is missing.
    """
    check_aggregation(aggregation, max_length)
    check_shapes(mask=mask, segment_ids=segment_ids)
    one = mask.astype(dtype)
    tokens, sequences, items = (
        jnp.maximum(count, 1).astype(dtype)
        for count in (denominators.tokens, denominators.sequences, denominators.items)
    )
    if aggregation == "token_sum":
        return one
    if aggregation in ("dapo", "bnpo"):
        return one / tokens
    if aggregation == "sequence_sum":
        return one / sequences
    if aggregation == "dr_grpo":
        return one / (max_length * sequences)
    if aggregation == "grpo":
        return one / segment_lengths(mask, dtype=dtype) / sequences
    if segment_ids is None:
        raise UserError('aggregation="item_mean" needs segment_ids: the item of every token')
    lengths = segment_lengths(mask, segment_ids, max_segments=max_segments, dtype=dtype)
    inside = (segment_ids >= 0) & (segment_ids < max_segments)
    return jnp.where(inside, one / lengths / items, 0)


def aggregate(
    per_token: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
    denominators: Denominators,
    *,
    aggregation: Aggregation = "dapo",
    max_length: int | None = None,
    segment_ids: Int[Array, "*batch C"] | None = None,
    max_segments: int = 64,
) -> Float[Array, ""]:
    """The sum over tokens of loss times `token_weights`; losses off the mask may be anything.

    Raises UserError for shapes that differ, and as `token_weights`.
    """
    check_shapes(per_token=per_token, mask=mask)
    weights = token_weights(
        mask,
        denominators,
        aggregation=aggregation,
        max_length=max_length,
        segment_ids=segment_ids,
        max_segments=max_segments,
        dtype=per_token.dtype,
    )
    return jnp.sum(jnp.where(mask, per_token, 0) * weights)


def check_aggregation(aggregation: str, max_length: int | None) -> None:
    """Raises UserError for an unknown name, or for "dr_grpo" without a positive `max_length`."""
    if aggregation not in AGGREGATIONS:
        raise UserError(f"unknown aggregation {aggregation!r}; known: {list(AGGREGATIONS)}")
    if aggregation == "dr_grpo" and (max_length is None or max_length < 1):
        raise UserError(
            'aggregation="dr_grpo" divides by a constant: give max_length, the longest completion'
        )
