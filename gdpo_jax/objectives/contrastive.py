"""Contrastive losses over a batch of labelled embeddings.

Two rows with the same label are a positive pair, two with different labels a negative one. Rows are
normalised to length one, so that their products are cosine similarities, and everything is computed
in float32 whatever the embeddings are. Each row is an anchor, and uses each pair once. A loss is
the mean over anchors that have a positive and a negative; it is 0, with a gradient of 0, where
there is no such anchor. `N` rows of `D` numbers.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.errors import UserError

__all__ = ["circle_loss", "info_nce", "supervised_contrastive", "triplet_loss"]

# Below this sum of squares a row has no direction: its similarities are 0, and so is its gradient.
_SMALLEST = 1e-24


class _Pairs(NamedTuple):
    """Similarities [N, N] of anchors (rows) to others, which of them are positive and negative
    pairs, and which anchors [N] have both. Anchors that lack either have all pairs in both masks,
    so that what is computed for them is finite before it is left out."""

    similarities: Float[Array, "N N"]
    positive: Bool[Array, "N N"]
    negative: Bool[Array, "N N"]
    anchors: Bool[Array, "N"]


def circle_loss(
    embeddings: Float[Array, "N D"],
    labels: Int[Array, "N"],
    valid: Bool[Array, "N"] | None = None,
    *,
    margin: float = 0.4,
    scale: float = 80.0,
) -> Float[Array, ""]:
    """Circle loss (Sun et al., arXiv 2002.10857, equations 4 and 6 to 8).

    Of an anchor with similarities `s_p` and `s_n`, `sg` without gradient:
    `softplus(logsumexp_n(scale a_n (s_n - margin)) + logsumexp_p(-scale a_p (s_p - 1 + margin)))`,
    `a_p = sg(max(0, 1 + margin - s_p))`, `a_n = sg(max(0, s_n + margin))`.

    valid: rows that are neither anchors nor partners where it is false.

    Raises UserError for shapes that do not belong together, and for a scale that is not positive.
    """
    _check_positive("scale", scale)
    _check_finite("margin", margin)
    pairs = _pairs(embeddings, labels, valid)
    s = pairs.similarities
    weight_p = jax.lax.stop_gradient(jnp.maximum(0.0, 1 + margin - s))
    weight_n = jax.lax.stop_gradient(jnp.maximum(0.0, s + margin))
    # Not a logarithm of a product of sums: with a scale of 80 the sums overflow.
    of_p = jax.nn.logsumexp(-scale * weight_p * (s - (1 - margin)), axis=1, where=pairs.positive)
    of_n = jax.nn.logsumexp(scale * weight_n * (s - margin), axis=1, where=pairs.negative)
    return _mean(jax.nn.softplus(of_n + of_p), pairs)


def info_nce(
    embeddings: Float[Array, "N D"],
    labels: Int[Array, "N"],
    valid: Bool[Array, "N"] | None = None,
    *,
    temperature: float = 0.07,
) -> Float[Array, ""]:
    """InfoNCE (van den Oord et al., arXiv 1807.03748, equation 4), each positive against the
    negatives alone: `-log(e_p / (e_p + sum_n e_n))`, `e = exp(s / temperature)`, averaged over the
    positives of an anchor.

    valid and errors: as for `circle_loss`.
    """
    _check_positive("temperature", temperature)
    pairs = _pairs(embeddings, labels, valid)
    logits = pairs.similarities / temperature
    of_n = jax.nn.logsumexp(logits, axis=1, where=pairs.negative)
    return _mean(_over_positives(jax.nn.softplus(of_n[:, None] - logits), pairs), pairs)


def supervised_contrastive(
    embeddings: Float[Array, "N D"],
    labels: Int[Array, "N"],
    valid: Bool[Array, "N"] | None = None,
    *,
    temperature: float = 0.07,
) -> Float[Array, ""]:
    """Supervised contrastive loss (Khosla et al., arXiv 2004.11362, equation 2, `L_out`): as
    `info_nce` with all partners of the anchor, its positives too, in the denominator.

    Unlike there, anchors without a negative are left out. valid and errors: as for `circle_loss`.
    """
    _check_positive("temperature", temperature)
    pairs = _pairs(embeddings, labels, valid)
    logits = pairs.similarities / temperature
    of_all = jax.nn.logsumexp(logits, axis=1, where=pairs.positive | pairs.negative)
    return _mean(_over_positives(of_all[:, None] - logits, pairs), pairs)


def triplet_loss(
    embeddings: Float[Array, "N D"],
    labels: Int[Array, "N"],
    valid: Bool[Array, "N"] | None = None,
    *,
    margin: float = 0.2,
) -> Float[Array, ""]:
    """Triplet loss of the hardest pairs (Hermans et al., arXiv 1703.07737, equation 5), with the
    squared distances of arXiv 1503.03832: `max(0, margin + d_p - d_n)`, `d = 2 - 2 s`, of the
    farthest positive and the nearest negative.

    valid and errors: as for `circle_loss`.
    """
    _check_finite("margin", margin)
    pairs = _pairs(embeddings, labels, valid)
    s = pairs.similarities
    farthest = jnp.min(s, axis=1, where=pairs.positive, initial=2.0)
    nearest = jnp.max(s, axis=1, where=pairs.negative, initial=-2.0)
    return _mean(jnp.maximum(0.0, margin + 2 * (nearest - farthest)), pairs)


def _pairs(
    embeddings: Float[Array, "N D"], labels: Int[Array, "N"], valid: Bool[Array, "N"] | None
) -> _Pairs:
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise UserError(
            f"embeddings must be [N, D] and labels [N], got {embeddings.shape} and {labels.shape}"
        )
    valid = jnp.ones(labels.shape, bool) if valid is None else valid
    if valid.shape != labels.shape:
        raise UserError(f"valid must be [N] as labels are, {labels.shape}, got {valid.shape}")
    # Selected before anything is computed: a row that is not valid may hold NaN.
    rows = jnp.where(valid[:, None], embeddings.astype(jnp.float32), 0.0)
    squares = jnp.sum(rows * rows, axis=1, keepdims=True)
    directed = squares > _SMALLEST
    # Selected twice: the derivative of the root is infinite at 0.
    lengths = jnp.sqrt(jnp.where(directed, squares, 1.0))
    units = jnp.where(directed, rows / lengths, 0.0)
    similarities = jnp.matmul(units, units.T, precision=jax.lax.Precision.HIGHEST)
    known = valid[:, None] & valid[None, :]
    same = labels[:, None] == labels[None, :]
    positive = same & known & ~jnp.eye(len(labels), dtype=bool)
    negative = ~same & known
    anchors = positive.any(axis=1) & negative.any(axis=1)
    left_out = ~anchors[:, None]
    return _Pairs(similarities, positive | left_out, negative | left_out, anchors)


def _over_positives(values: Float[Array, "N N"], pairs: _Pairs) -> Float[Array, "N"]:
    """The mean over the positives of each anchor."""
    return jnp.mean(values, axis=1, where=pairs.positive)


def _mean(losses: Float[Array, "N"], pairs: _Pairs) -> Float[Array, ""]:
    """The mean over the anchors that have both kinds of partners; 0 where none has."""
    total = jnp.sum(jnp.where(pairs.anchors, losses, 0.0))
    return total / jnp.maximum(jnp.sum(pairs.anchors, dtype=jnp.float32), 1.0)


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{name} must be a positive number, got {value!r}")


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise UserError(f"{name} must be a finite number, got {value!r}")
