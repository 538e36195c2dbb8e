"""Attention of rows whose completions are too long to hold their scores, for training.

The same layouts as in group_attention.py, in blocks (block_attention.py): tokens say what they
belong to, and no mask of the completions' length squared exists. The prompt part runs in the same
blocks, so that a long prompt costs no more. Shapes as in group_attention.py.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from gdpo_jax.policies.attention import Attend, heads_first
from gdpo_jax.policies.block_attention import (
    BLOCK,
    LongKeySet,
    Tokens,
    block_attention,
    reach_of,
)
from gdpo_jax.policies.packing import PackedGroups
from gdpo_jax.policies.row_parts import joined_row, split_row

PROMPT, PADDING = 0, -1  # segments of rows with one prompt


class RowTokens(NamedTuple):
    """The tokens of rows as they are compared: of prompts [B,P], of completions [#B,#G,C].

    prompts, prompt_keys: as queries and as keys, of which padding is not seen. to_prompts, to_own:
    completions as they look at prompts and at themselves.
    """

    prompts: Tokens
    prompt_keys: Tokens
    to_prompts: Tokens
    to_own: Tokens


def long_grouped(
    prompt_lengths: Int[Array, "B"],
    *,
    prompt_size: int,
    num_samples: int,
    length: int,
    window: int | None = None,
    block: int = BLOCK,
) -> Attend:
    """`grouped` of completions of `length` slots, in blocks of `block` queries and keys."""
    before, slots = jnp.arange(prompt_size)[None, :], jnp.arange(length)
    prompt = jnp.zeros_like(prompt_lengths)[:, None] + PROMPT
    real = jnp.where(before < prompt_lengths[:, None], PROMPT, PADDING)
    one = jnp.full((1, 1, length), PROMPT)
    tokens = RowTokens(
        prompts=Tokens(prompt, before),
        prompt_keys=Tokens(real, before),
        to_prompts=Tokens(one, prompt_lengths[:, None, None] + slots[None, None]),
        to_own=Tokens(one, slots[None, None]),
    )
    sizes = {"prompt_size": prompt_size, "num_blocks": num_samples}
    return _in_blocks(tokens, **sizes, window=window, block=block)


def long_packed(rows: PackedGroups, *, window: int | None = None, block: int = BLOCK) -> Attend:
    """`packed_attention`, in blocks."""
    before, after = rows.prompt_positions, rows.completion_positions
    tokens = RowTokens(
        prompts=Tokens(rows.prompt_group, before),
        prompt_keys=Tokens(rows.prompt_group, before),
        to_prompts=Tokens(rows.completion_group, after),
        to_own=Tokens(rows.completion_start, after),
    )
    size, bins = rows.prompts.shape[1], rows.completions.shape[1]
    return _in_blocks(tokens, prompt_size=size, num_blocks=bins, window=window, block=block)


def _in_blocks(
    tokens: RowTokens, *, prompt_size: int, num_blocks: int, window: int | None, block: int
) -> Attend:
    def of_prompts(tokens, axes):
        return Tokens(*(x.reshape(len(x), *[1] * axes, x.shape[-1]) for x in tokens))

    def behind(tokens):
        return Tokens(*(x[:, None, :, None] for x in tokens))

    def attend(queries, keys, values, cache, local):
        row = split_row(queries, keys, values, prompt_size=prompt_size, num_blocks=num_blocks)
        prompt = row.prompt_keys, row.prompt_values
        batch, kv_heads = row.keys.shape[:2]
        split = heads_first(row.prompt_queries)
        split = split.reshape(batch, kv_heads, -1, prompt_size, split.shape[-1])
        itself = (of_prompts(tokens.prompts, 2), of_prompts(tokens.prompt_keys, 2))
        options = {"reach": reach_of(window, local), "block": block}
        from_prompt = block_attention(split, [LongKeySet(*prompt, *itself)], own=[True], **options)
        from_prompt = heads_first(from_prompt.reshape(batch, -1, *from_prompt.shape[3:]))
        own = behind(tokens.to_own)
        sets = (
            LongKeySet(*prompt, behind(tokens.to_prompts), of_prompts(tokens.prompt_keys, 3)),
            LongKeySet(row.keys, row.values, own, own),
        )
        mixed = block_attention(row.queries, sets, own=(False, True), **options)
        return joined_row(from_prompt, mixed), cache

    return attend


__all__ = ["long_grouped", "long_packed"]
