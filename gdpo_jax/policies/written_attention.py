"""Attention of one new token over the part of its row's slots that is written so far.

A row has as many slots as its completion may get tokens. A product with all of them would cost the
limit at every token; here blocks of slots are read up to the last one that holds a token.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdpo_jax.policies.block_attention import BLOCK, mixed_of, no_keys, with_keys
from gdpo_jax.policies.softmax_attention import KeySet


def written_attention(
    queries: Float[Array, "B J G R K"],
    prompt: KeySet,
    keys: Float[Array, "*L K C"],
    values: Float[Array, "*L C K"],
    step: Int[Array, ""],
    *,
    reach: int | Int[Array, ""] | None,
    block: int = BLOCK,
) -> Float[Array, "B J G R K"]:
    """softmax(q k / sqrt(K)) v over the prompt and the own slots up to `step`.

    keys, values: `*L` is [B, J, G], without those that are 1 if they are to be left out.
    reach: how many of the own slots, that of the token counted, are seen back; None for all.
    block: slots that are read together.
    """
    slots = keys.shape[-1]
    block = min(block, slots)
    first = 0 if reach is None else jnp.maximum(step - reach + 1, 0) // block

    def add(index, running):
        # The last block begins earlier where the slots are no multiple of it, and hides what the
        # one before has read.
        start = jnp.minimum(index * block, slots - block)
        at = start + jnp.arange(block)
        seen = (at <= step) & (at >= index * block)
        if reach is not None:
            seen &= step - at < reach
        own_keys = jax.lax.dynamic_slice_in_dim(keys, start, block, axis=-1)
        own_values = jax.lax.dynamic_slice_in_dim(values, start, block, axis=-2)
        seen = seen[None, None, None, None]
        return with_keys(running, queries, jnp.swapaxes(own_keys, -1, -2), own_values, seen)

    running = with_keys(no_keys(queries), queries, prompt.keys, prompt.values, prompt.mask)
    running = jax.lax.fori_loop(first, step // block + 1, add, running)
    return mixed_of(running, queries.dtype)[0]


__all__ = ["written_attention"]
