"""Attention of rows that hold prompts once and their completions behind them, for training.

The blocks of scores that a dense mask would hide, completions against other ones, are not computed.
Shapes as in attention.py; of packed rows (packing.py) `R` rows, `A` prompt slots, `N` bins of `W`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from gdpo_jax.policies.attention import (
    Attend,
    KeyValues,
    causal_attention,
    causal_mask,
    heads_first,
    joint_attention,
    shown,
    within,
)
from gdpo_jax.policies.packing import PackedGroups


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
    prompt_causal = causal_mask(prompt_lengths, prompt_size)
    before = jnp.arange(prompt_size)
    prompt_mask = (before[None, :] < prompt_lengths[:, None])[:, None]
    prompt_near = within(before[None], before[None], window)

    def see(length, local):
        slots = jnp.arange(length)
        after = prompt_lengths[:, None] + slots[None, :]
        see_prompt = shown(prompt_mask, within(after, before[None], window), local)
        see_own = shown(slots[:, None] >= slots[None, :], within(slots, slots, window), local)
        return (
            shown(prompt_causal, prompt_near, local),
            see_prompt[:, None],
            see_own[None, None],
        )

    return blocks_behind_prompts(see, prompt_size=prompt_size, num_blocks=num_samples)


def blocks_behind_prompts(
    see: Callable[[int, Any], tuple[Array, Array, Array]], *, prompt_size: int, num_blocks: int
) -> Attend:
    """Rows of P prompt tokens and G blocks of C tokens behind them; blocks never see each other.

    see(C, local) gives what prompts see of prompts [B,P,P], blocks of prompts [B,#G,#C,P], and
    blocks of themselves [#B,#G,C,C].
    """

    def attend(queries, keys, values, cache, local):
        batch, size = queries.shape[0], queries.shape[1] - prompt_size
        if size % num_blocks:
            raise ValueError(f"{size} completion tokens do not divide into {num_blocks} samples")
        length = size // num_blocks
        kv_heads, head_dim = keys.shape[2:]
        prompt_to_prompt, to_prompt, to_own = see(length, local)

        def behind(x):
            return x[:, prompt_size:].reshape(batch, num_blocks, length, kv_heads, -1, head_dim)

        def own(x):
            return jnp.transpose(behind(x)[..., 0, :], (0, 3, 1, 2, 4))

        prompt = KeyValues(heads_first(keys[:, :prompt_size]), heads_first(values[:, :prompt_size]))
        from_prompt = causal_attention(queries[:, :prompt_size], *prompt, prompt_to_prompt)
        split = jnp.transpose(behind(queries), (0, 3, 1, 4, 2, 5))
        per_key = split.shape[3]
        mixed = joint_attention(
            split.reshape(batch, kv_heads, num_blocks, per_key * length, head_dim),
            prompt,
            KeyValues(jnp.swapaxes(own(keys), -1, -2), own(values)),
            jnp.tile(to_prompt, (1, 1, per_key, 1)) if to_prompt.shape[2] > 1 else to_prompt,
            jnp.tile(to_own, (1, 1, per_key, 1)),
        )
        mixed = jnp.transpose(mixed.reshape(split.shape), (0, 2, 4, 1, 3, 5))
        mixed = mixed.reshape(batch, size, *queries.shape[2:])
        return jnp.concatenate([from_prompt, mixed], axis=1), cache

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
    prompts = same(rows.prompt_group, rows.prompt_group) & causal_slots(size)[None]
    prompts_near = within(before, before, window)
    to_prompt = same(rows.completion_group, rows.prompt_group[:, None])
    to_prompt_near = within(after, before[:, None], window)
    to_own = same(rows.completion_start, rows.completion_start) & causal_slots(length)[None, None]
    to_own_near = within(after, after, window)

    def see(_, local):
        return (
            shown(prompts, prompts_near, local),
            shown(to_prompt, to_prompt_near, local),
            shown(to_own, to_own_near, local),
        )

    return blocks_behind_prompts(see, prompt_size=size, num_blocks=bins)


def causal_slots(size: int) -> Bool[Array, "T T"]:
    """Slot t sees slots s <= t."""
    slots = jnp.arange(size)
    return slots[:, None] >= slots[None, :]


__all__ = ["blocks_behind_prompts", "grouped", "packed_attention"]
