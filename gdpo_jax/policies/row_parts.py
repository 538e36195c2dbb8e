"""Rows of a prompt and the completions behind it, taken apart for attention and joined again.

Shapes as in attention.py; `R` query heads share a key head; a block is a completion, or a bin of
packed ones.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdpo_jax.policies.attention import heads_first


class Row(NamedTuple):
    """The prompt of each row, heads behind its queries, and the G blocks of C tokens behind it."""

    prompt_queries: Float[Array, "B P H K"]
    prompt_keys: Float[Array, "B J P K"]
    prompt_values: Float[Array, "B J P K"]
    queries: Float[Array, "B J G R C K"]
    keys: Float[Array, "B J G C K"]
    values: Float[Array, "B J G C K"]


def split_row(
    queries: Float[Array, "B T H K"],
    keys: Float[Array, "B T J K"],
    values: Float[Array, "B T J K"],
    *,
    prompt_size: int,
    num_blocks: int,
) -> Row:
    """Rows of P prompt tokens and G blocks behind them, T = P + G*C, in their parts.

    Raises ValueError where G does not divide what is behind the prompt.
    """
    batch, size = queries.shape[0], queries.shape[1] - prompt_size
    if size % num_blocks:
        raise ValueError(f"{size} completion tokens do not divide into {num_blocks} samples")
    length = size // num_blocks
    kv_heads, head_dim = keys.shape[2:]

    def behind(x):
        # [B, G, C, heads, K] with the heads in front of the blocks
        blocks = x[:, prompt_size:].reshape(batch, num_blocks, length, *x.shape[2:])
        return jnp.transpose(blocks, (0, 3, 1, 2, 4))

    prompt = [heads_first(x[:, :prompt_size]) for x in (keys, values)]
    split = behind(queries).reshape(batch, kv_heads, -1, num_blocks, length, head_dim)
    split = jnp.swapaxes(split, 2, 3)
    return Row(queries[:, :prompt_size], *prompt, split, behind(keys), behind(values))


def joined_row(
    from_prompt: Float[Array, "B P H K"], mixed: Float[Array, "B J G R C K"]
) -> Float[Array, "B T H K"]:
    """What was mixed for the prompts and for the blocks behind them, as a row again."""
    mixed = jnp.transpose(mixed, (0, 2, 4, 1, 3, 5))
    mixed = mixed.reshape(len(mixed), -1, *from_prompt.shape[2:])
    return jnp.concatenate([from_prompt, mixed], axis=1)


__all__ = ["Row", "joined_row", "split_row"]
