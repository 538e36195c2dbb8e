"""Drawing one token a row from logits: inverse CDF on two levels, top-p by a threshold, no sort.

`N` rows, `V` tokens. Sorting or drawing V random numbers a row costs more than a small model's
whole forward pass, so both are avoided: one uniform number a row selects a block of tokens by the
sums of blocks, then a token inside it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BLOCK = 128


def choose_token(
    logits: Float[Array, "N V"],
    uniforms: Float[Array, "N"],
    *,
    temperature: float,
    top_p: float,
) -> tuple[Int[Array, "N"], Float[Array, "N"]]:
    """A token a row, and its log-probability at `temperature` before the top-p cut, in float32.

    temperature 0 takes the largest logit (the first of equals) and its log-probability at 1.
    """
    logits = logits.astype(jnp.float32)
    scaled = logits if temperature == 0 else logits / temperature
    weights = jnp.exp(scaled - scaled.max(axis=-1, keepdims=True))
    total = weights.sum(axis=-1)
    if temperature == 0:
        tokens = jnp.argmax(logits, axis=-1)
    else:
        kept = weights if top_p == 1 else keep_top_p(weights, top_p)
        tokens = inverse_cdf(kept, uniforms)
    chosen = jnp.take_along_axis(scaled, tokens[:, None], axis=-1)[:, 0]
    return tokens.astype(jnp.int32), chosen - scaled.max(axis=-1) - jnp.log(total)


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


def keep_top_p(weights: Float[Array, "N V"], top_p: float) -> Float[Array, "N V"]:
    """Zero weights below the largest threshold that keeps `top_p` of the sum (arXiv 1904.09751).

    Non-negative floats order as their bit patterns do, so bisection over 31 bits finds the
    threshold exactly; tokens of equal weight at the threshold are kept together.
    """
    bits = jax.lax.bitcast_convert_type(weights, jnp.int32)
    enough = top_p * weights.sum(axis=-1)

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        kept = jnp.where(bits >= middle[:, None], weights, 0.0).sum(axis=-1)
        return jnp.where(kept >= enough, middle, low), jnp.where(kept >= enough, high, middle)

    # Keeping everything is enough by definition; nothing is above the largest weight.
    bounds = (jnp.zeros_like(bits[:, 0]), bits.max(axis=-1) + 1)
    threshold, _ = jax.lax.fori_loop(0, 31, halve, bounds)
    return jnp.where(bits >= threshold[:, None], weights, 0.0)
