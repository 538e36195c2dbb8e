"""Log importance weights of the trained policy against the one that made the samples.

The level says what one weight belongs to: a token (GRPO), a list item (Rank-GRPO, arXiv
2510.20150), a sequence (GSPO, arXiv 2507.18071), or the sequence in value and the token in gradient
(GSPO-token).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.objectives.shapes import check_shapes
from gdpo_jax.objectives.tokens import pooled_mean

Level = Literal["token", "segment", "sequence", "sequence_token"]


def log_importance(
    log_probs: Float[Array, "*batch C"],
    old_log_probs: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
    *,
    level: Level = "token",
    segment_ids: Int[Array, "*batch C"] | None = None,
    max_segments: int = 64,
    limit: float = 20.0,
) -> Float[Array, "*batch C"]:
    """The log weight at every token; zero outside the mask.

    d = log_probs - old_log_probs, clamped to [-limit, limit] before any mean (verl and Tunix do
    so).
    "token": d. "segment": mean of d over the token's segment. "sequence": mean of d over the row.
    "sequence_token": value of "sequence",
    gradient of the token, `lp - sg(lp) + sg(s)` (GSPO-token).
    Raises UserError for shapes that differ.
    """
    check_shapes(
        log_probs=log_probs, old_log_probs=old_log_probs, mask=mask, segment_ids=segment_ids
    )
    difference = jnp.where(mask, log_probs - old_log_probs, 0)
    difference = jnp.clip(difference, -limit, limit)
    if level == "token":
        return difference
    if level == "segment":
        return pooled_mean(difference, mask, segment_ids, max_segments=max_segments)
    sequence = pooled_mean(difference, mask)
    if level == "sequence":
        return sequence
    token = jnp.where(mask, log_probs, 0)
    return jax.lax.stop_gradient(sequence - token) + token
