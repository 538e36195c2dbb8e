"""Drawing one token a row from logits: inverse CDF on two levels, cuts by a threshold, no sort.

`N` rows, `V` tokens. Sorting or drawing V random numbers a row costs more than a small model's
whole forward pass, so both are avoided: one uniform number a row selects a block of tokens by the
sums of blocks, then a token inside it. Each cut keeps the tokens of largest weight, so it is a
threshold on weights, and tokens of equal weight at the threshold are kept together.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

BLOCK = 128


def choose_token(
    logits: Float[Array, "N V"],
    uniforms: Float[Array, "N"],
    *,
    temperature: float | Float[Array, ""],
    top_k: int = 0,
    top_p: float | Float[Array, ""] = 1.0,
    min_p: float = 0.0,
) -> tuple[Int[Array, "N"], Float[Array, "N"], Float[Array, "N"] | None]:
    """A token a row and two log-probabilities of it in float32: of the distribution at
    `temperature`, and of what the cuts leave of it, which is drawn from; None without a cut.

    Cuts apply in this order, each to what the one before has left: `keep_top_k` (0: off),
    `keep_top_p` (1: off), `keep_min_p` (0: off), as in Hugging Face transformers.
    temperature 0 takes the largest logit (the first of equals) and its log-probability at 1; cuts
    have no part in it. As arrays, temperature is above 0 and top_p is a cut.
    """
    logits = logits.astype(jnp.float32)
    greedy, cuts_top_p = _is(temperature, 0), not _is(top_p, 1)
    scaled = logits if greedy else logits / temperature
    weights = jnp.exp(scaled - scaled.max(axis=-1, keepdims=True))
    total = weights.sum(axis=-1)
    kept = weights
    if greedy:
        tokens = jnp.argmax(logits, axis=-1)
    else:
        if 0 < top_k < logits.shape[-1]:
            kept = keep_top_k(kept, top_k)
        if cuts_top_p:
            kept = keep_top_p(kept, top_p)
        if min_p > 0:
            kept = keep_min_p(kept, min_p)
        tokens = inverse_cdf(kept, uniforms)
    chosen = jnp.take_along_axis(scaled, tokens[:, None], axis=-1)[:, 0] - scaled.max(axis=-1)
    cut = not greedy and (top_k > 0 or cuts_top_p or min_p > 0)
    sampled = chosen - jnp.log(kept.sum(axis=-1)) if cut else None
    return tokens.astype(jnp.int32), chosen - jnp.log(total), sampled


def _is(value: float | Array, number: float) -> bool:
    """Whether it is this number while the program is made; what only its call knows is not."""
    return not isinstance(value, jax.Array) and value == number


def inverse_cdf(weights: Float[Array, "N V"], uniforms: Float[Array, "N"]) -> Int[Array, "N"]:
    """Token i with probability weights_i / sum(weights), by a number in [0, 1) a row."""
    rows, vocab = weights.shape
    blocks = jnp.pad(weights, ((0, 0), (0, -vocab % BLOCK))).reshape(rows, -1, BLOCK)
    sums = blocks.sum(axis=-1)
    block, rest = _first_above(sums, uniforms * sums.sum(axis=-1))
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    index, _ = _first_above(inside, rest)
    return block * BLOCK + index


def _first_above(
    weights: Float[Array, "N M"], target: Float[Array, "N"]
) -> tuple[Int[Array, "N"], Float[Array, "N"]]:
    """The first index of positive weight whose cumulative sum exceeds the target, and what is left.

    Rounding can leave no such index when the target is the whole sum; then the last positive weight
    is taken, so that a token of weight zero is never drawn.
    """
    cumulative = jnp.cumsum(weights, axis=-1)
    # Extremes of numbers, since a CPU takes several times as long for an argmax.
    size = weights.shape[-1]
    slots = jnp.arange(size)[None]
    above = (cumulative > target[:, None]) & (weights > 0)
    first = jnp.where(above, slots, size).min(axis=-1)
    last = jnp.where(weights > 0, slots, 0).max(axis=-1)
    index = jnp.minimum(first, last)
    before = jnp.take_along_axis(cumulative - weights, index[:, None], axis=-1)[:, 0]
    return index, target - before


def keep_top_k(weights: Float[Array, "N V"], top_k: int) -> Float[Array, "N V"]:
    """Zero weights but for the `top_k` largest, and those equal to the least of them."""
    return _keep_largest(
        weights, lambda kept: kept.sum(axis=-1), jnp.full(weights.shape[:-1], top_k)
    )


def keep_top_p(
    weights: Float[Array, "N V"], top_p: float | Float[Array, ""]
) -> Float[Array, "N V"]:
    """Zero weights but for the smallest set that holds `top_p` of their sum (arXiv 1904.09751), and
    those equal to the least of it.
    """
    return _keep_largest(
        weights,
        lambda kept: jnp.where(kept, weights, 0.0).sum(axis=-1),
        top_p * weights.sum(axis=-1),
    )


def keep_min_p(weights: Float[Array, "N V"], min_p: float) -> Float[Array, "N V"]:
    """Zero weights below `min_p` of the largest (arXiv 2407.01082)."""
    lowest = min_p * weights.max(axis=-1, keepdims=True)
    return jnp.where(weights >= lowest, weights, 0.0)


def _keep_largest(
    weights: Float[Array, "N V"],
    measure: Callable[[Bool[Array, "N V"]], Array],
    enough: Array,
) -> Float[Array, "N V"]:
    """Zero weights below the largest threshold that leaves `enough` by `measure`.

    Non-negative floats order as their bit patterns do, so bisection over 31 bits finds the
    threshold exactly.
    """
    bits = jax.lax.bitcast_convert_type(weights, jnp.int32)

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        suffices = measure(bits >= middle[:, None]) >= enough
        return jnp.where(suffices, middle, low), jnp.where(suffices, high, middle)

    # Keeping everything is enough by definition; nothing is above the largest weight.
    bounds = (jnp.zeros_like(bits[:, 0]), bits.max(axis=-1) + 1)
    threshold, _ = jax.lax.fori_loop(0, 31, halve, bounds)
    return jnp.where(bits >= threshold[:, None], weights, 0.0)
