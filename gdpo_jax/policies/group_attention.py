"""Attention of rows that hold prompts once and their completions behind them, for training.

The blocks of scores that a dense mask would hide, completions against other ones, are not computed.
Completions here are short enough to hold their scores; long_attention.py is for others. Shapes as
in attention.py; of packed rows (packing.py) `R` rows, `A` prompt slots, `N` bins of `W`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from gdpo_jax.policies.attention import (
    Attend,
    Mask,
    both_ways,
    causal_attention,
    causal_mask,
    shown,
    shown_both_ways,
    within,
)
from gdpo_jax.policies.packing import PackedGroups
from gdpo_jax.policies.row_parts import joined_row, split_row
from gdpo_jax.policies.softmax_attention import KeySet, softmax_attention


def grouped(
    prompt_lengths: Int[Array, "B"],
    *,
    prompt_size: int,
    num_samples: int,
    window: int | None = None,
) -> Attend:
    """Rows of one prompt and its G completions: [B, P + G*C] tokens, the prompt first.

    The prompt sees itself causally; a completion sees the prompt and itself, never another one.
    The blocks that a dense mask would hide are not computed.
    """
    prompt_causal = both_ways(causal_mask(prompt_lengths, prompt_size))
    before = jnp.arange(prompt_size)
    prompt_mask = (before[None, :] < prompt_lengths[:, None])[:, None]
    prompt_near = both_ways(within(before[None], before[None], window))

    def see(length, local):
        slots = jnp.arange(length)
        after = prompt_lengths[:, None] + slots[None, :]
        see_prompt = shown(prompt_mask, within(after, before[None], window), local)
        see_own = shown(slots[:, None] >= slots[None, :], within(slots, slots, window), local)
        return (
            shown_both_ways(prompt_causal, prompt_near, local),
            see_prompt[:, None],
            see_own[None, None],
        )

    return blocks_behind_prompts(see, prompt_size=prompt_size, num_blocks=num_samples)


def blocks_behind_prompts(
    see: Callable[[int, Any], tuple[Mask, Array, Array]], *, prompt_size: int, num_blocks: int
) -> Attend:
    """Rows of P prompt tokens and G blocks of C tokens behind them; blocks never see each other.

    see(C, local) gives what prompts see of prompts [B,P,P], blocks of prompts [B,#G,#C,P], and
    blocks of themselves [#B,#G,C,C].
    """

    def attend(queries, keys, values, cache, local):
        row = split_row(queries, keys, values, prompt_size=prompt_size, num_blocks=num_blocks)
        prompt_to_prompt, to_prompt, to_own = see(row.queries.shape[-2], local)
        prompt = row.prompt_keys, row.prompt_values
        from_prompt = causal_attention(row.prompt_queries, *prompt, prompt_to_prompt)
        sets = (
            KeySet(*prompt, to_prompt[:, None, :, None]),
            KeySet(row.keys, row.values, to_own[:, None, :, None]),
        )
        return joined_row(from_prompt, softmax_attention(row.queries, sets)), cache

    return attend


def packed_attention(rows: PackedGroups, *, window: int | None = None) -> Attend:
    """A prompt sees itself causally; a completion sees the prompt of its group, and itself.

    rows: fields without the axis of cells, [R, A] and [R, N, W].
    """
    size, bins, length = rows.prompts.shape[1], *rows.completions.shape[1:]
    before, after = rows.prompt_positions, rows.completion_positions

    def same(queries, keys):
        return queries[..., :, None] == keys[..., None, :]

    # Slots of one prompt, or of one completion, follow each other: causal slots are causal tokens.
    prompts = both_ways(same(rows.prompt_group, rows.prompt_group) & causal_slots(size)[None])
    prompts_near = both_ways(within(before, before, window))
    to_prompt = same(rows.completion_group, rows.prompt_group[:, None])
    to_prompt_near = within(after, before[:, None], window)
    to_own = same(rows.completion_start, rows.completion_start) & causal_slots(length)[None, None]
    to_own_near = within(after, after, window)

    def see(_, local):
        return (
            shown_both_ways(prompts, prompts_near, local),
            shown(to_prompt, to_prompt_near, local),
            shown(to_own, to_own_near, local),
        )

    return blocks_behind_prompts(see, prompt_size=size, num_blocks=bins)


def causal_slots(size: int) -> Bool[Array, "T T"]:
    """Slot t sees slots s <= t."""
    slots = jnp.arange(size)
    return slots[:, None] >= slots[None, :]


__all__ = ["blocks_behind_prompts", "grouped", "packed_attention"]
