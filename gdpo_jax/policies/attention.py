"""Layouts of attention: which query sees which key, as functions that a decoder layer calls.

A layer projects its tokens to queries, keys and values and leaves the rest to an `Attend` function,
so one decoder serves training rows, shared prompts, prefill and cached decoding. In the shape
descriptions: `N` rows, `T` query tokens, `S` key slots, `B` prompts, `G` samples a prompt, `P`
prompt length, `C` completion length, `H` query heads, `J` key heads, `R = H / J`, `K` head size.

Decoders with windows have local layers, whose queries see only keys less than `window` positions
behind. Layouts decide what is near by positions, never by slots; the layer says whether it is
local.

Scores and softmax are float32. A query that sees nothing gets finite values, never NaN. Products
are plain batched matmuls with the heads in front: the small operands are transposed beforehand,
because compilers otherwise transpose the large score arrays (five times slower on CPU).
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from gdpo_jax.policies.block_attention import LONG, reach_of
from gdpo_jax.policies.softmax_attention import KeySet, softmax_attention
from gdpo_jax.policies.written_attention import written_attention

# Queries: products of fewer are no faster, and products of more compute more scores in vain.
CAUSAL_BLOCK = 256


@runtime_checkable
class Attend(Protocol):
    """Mixes values by queries and keys; `cache` is this layer's own and is returned renewed.

    local: whether this layer sees its window only, a scalar; None in decoders without windows.
    """

    def __call__(
        self,
        queries: Float[Array, "N T H K"],
        keys: Float[Array, "N T J K"],
        values: Float[Array, "N T J K"],
        cache: PyTree,
        local: bool | Bool[Array, ""] | None,
    ) -> tuple[Float[Array, "N T H K"], PyTree]: ...


class KeyValues(NamedTuple):
    """Keys and values of the tokens seen so far, of one layer or stacked over layers."""

    keys: Shaped[Array, "..."]
    values: Shaped[Array, "..."]


class Mask(NamedTuple):
    """Which slots `[.., S]` each query sees, and the same with the slots in front."""

    shown: Bool[Array, "*N T S"]
    turned: Bool[Array, "*N S T"]


def both_ways(mask: Bool[Array, "*N T S"] | None) -> Mask | None:
    """The mask and its copy for the backward pass; made before the layers, which all share it."""
    return None if mask is None else Mask(mask, jnp.swapaxes(mask, -1, -2))


def within(
    queries: Int[Array, "*#N T"], keys: Int[Array, "*#N S"], window: int | None
) -> Bool[Array, "*N T S"] | None:
    """Which keys stand less than `window` positions before each query; None without a window."""
    return None if window is None else queries[..., :, None] - keys[..., None, :] < window


def shown(
    mask: Bool[Array, "*#N #T S"],
    near: Bool[Array, "*#N #T S"] | None,
    local: bool | Bool[Array, ""] | None,
) -> Bool[Array, "*N T S"]:
    """What one layer sees: all that `mask` shows, in a local layer only what is near."""
    if local is None or local is False:
        return mask
    if near is None:
        raise ValueError("a decoder with windows needs a layout that was given its window")
    return mask & near if local is True else mask & (near | ~local)


def shown_both_ways(mask: Mask, near: Mask | None, local: bool | Bool[Array, ""] | None) -> Mask:
    """`shown`, of the mask and of its copy."""
    return Mask(*(shown(*pair, local) for pair in zip(mask, near or (None, None))))


def heads_first(x: Shaped[Array, "N T J K"]) -> Shaped[Array, "N J T K"]:
    """The slots behind the heads, as batched matmuls want them."""
    return jnp.swapaxes(x, 1, 2)


def masked_attention(
    queries: Float[Array, "N T H K"],
    keys: Float[Array, "N J S K"],
    values: Float[Array, "N J S K"],
    mask: Mask,
) -> Float[Array, "N T H K"]:
    """softmax(q k / sqrt(K)) v over the slots that `mask` shows; R = H / J queries share a key."""
    rows, size, num_heads, head_dim = queries.shape
    grouped = heads_first(queries).reshape(rows, keys.shape[1], -1, size, head_dim)
    turned = mask.turned[:, None, :, None]
    keys_of_all = KeySet(keys, values, mask.shown[:, None, None], turned)
    mixed = softmax_attention(grouped, (keys_of_all,))
    return heads_first(mixed.reshape(rows, num_heads, size, head_dim))


def causal_attention(
    queries: Float[Array, "N T H K"],
    keys: Float[Array, "N J T K"],
    values: Float[Array, "N J T K"],
    mask: Mask,
    *,
    block: int = CAUSAL_BLOCK,
) -> Float[Array, "N T H K"]:
    """`masked_attention` where no query sees a later slot: blocks of queries end at their own slot.

    The scores behind a block's last slot, up to half of all in long prompts, are not computed.
    """
    ends = [*range(block, queries.shape[1], block), queries.shape[1]]
    parts = [
        masked_attention(
            queries[:, start:end],
            keys[:, :, :end],
            values[:, :, :end],
            Mask(mask.shown[:, start:end, :end], mask.turned[:, :end, start:end]),
        )
        for start, end in zip([0, *ends], ends)
    ]
    return jnp.concatenate(parts, axis=1)


def masked(mask: Bool[Array, "N T S"], near: Bool[Array, "#N T S"] | None = None) -> Attend:
    """Every row alone: query t sees the keys of its own row that `mask` shows (S = T)."""

    both, near = both_ways(mask), both_ways(near)

    def attend(queries, keys, values, cache, local):
        see = shown_both_ways(both, near, local)
        return masked_attention(queries, heads_first(keys), heads_first(values), see), cache

    return attend


def causal(mask: Bool[Array, "N T T"], near: Bool[Array, "#N T T"] | None = None) -> Attend:
    """As `masked`, for masks that show no query a later slot."""

    both, near = both_ways(mask), both_ways(near)

    def attend(queries, keys, values, cache, local):
        see = shown_both_ways(both, near, local)
        return causal_attention(queries, heads_first(keys), heads_first(values), see), cache

    return attend


def remembering(mask: Bool[Array, "N T T"], near: Bool[Array, "#N T T"] | None = None) -> Attend:
    """As `causal`, and the keys and values [N,J,T,K] come back as the layer's cache (prefill)."""

    both, near = both_ways(mask), both_ways(near)

    def attend(queries, keys, values, cache, local):
        cache = KeyValues(heads_first(keys), heads_first(values))
        return causal_attention(queries, *cache, shown_both_ways(both, near, local)), cache

    return attend


def cached(
    mask: Bool[Array, "N T S"], start: Int[Array, ""], near: Bool[Array, "#N T S"] | None = None
) -> Attend:
    """Tokens fill cache slots `start .. start + T - 1`; `mask` says which of all S they see."""

    def attend(queries, keys, values, cache, local):
        zero = jnp.zeros_like(start)
        at = (zero, zero, start, zero)
        cache = KeyValues(
            jax.lax.dynamic_update_slice(cache.keys, heads_first(keys), at),
            jax.lax.dynamic_update_slice(cache.values, heads_first(values), at),
        )
        see = both_ways(shown(mask, near, local))
        return masked_attention(queries, *cache, see), cache

    return attend


def causal_mask(lengths: Int[Array, "N"], num_slots: int) -> Bool[Array, "N T T"]:
    """Query t sees the slots s <= t of the first `lengths` ones (right-padded rows)."""
    slots = jnp.arange(num_slots)
    causal = slots[:, None] >= slots[None, :]
    return causal[None] & (slots[None, None, :] < lengths[:, None, None])


def empty_completion_cache(
    shape: tuple[int, int, int], num_kv_heads: int, head_dim: int, dtype: jnp.dtype
) -> KeyValues:
    """One layer's slots for B*G completions of C tokens: keys [B,J,G,K,C], values [B,J,G,C,K]."""
    batch, samples, length = shape
    lead = (batch, num_kv_heads, samples)
    return KeyValues(
        jnp.zeros((*lead, head_dim, length), dtype), jnp.zeros((*lead, length, head_dim), dtype)
    )


def decoding(
    prompt_lengths: Int[Array, "B"],
    step: Int[Array, ""],
    *,
    prompt_size: int,
    window: int | None = None,
) -> Attend:
    """One new token of each completion: rows `[B, G]`, over the prompt's cache and the row's own.

    The layer's cache is a pair (prompt, own): of the prompt keys and values [B,J,P,K], of the row
    keys [B,J,G,K,C], as products with few queries read them (five times faster on CPU), and values
    [B,J,G,C,K]; of B, J and G both may lack those that are 1. The token fills own slot `step`, and
    stands `step` positions behind its prompt. Of more than `LONG` own slots only blocks that hold a
    token are read.
    """
    before = jnp.arange(prompt_size)[None, :]
    prompt_mask = (before < prompt_lengths[:, None])[:, None]
    prompt_near = within(prompt_lengths[:, None] + step, before, window)

    def attend(queries, keys, values, cache, local):
        prompt, own = cache
        batch, samples, kv_heads, head_dim = keys.shape
        lead, zero = own.values.shape[:-2], jnp.zeros_like(step)
        key, value = (heads_first(x).reshape(*lead, head_dim) for x in (keys, values))
        first = (zero,) * len(lead)
        own = KeyValues(
            jax.lax.dynamic_update_slice(own.keys, key[..., None], (*first, zero, step)),
            jax.lax.dynamic_update_slice(own.values, value[..., None, :], (*first, step, zero)),
        )
        split = heads_first(queries.reshape(batch, samples, kv_heads, -1))
        split = split.reshape(batch, kv_heads, samples, -1, head_dim)
        slots = jnp.arange(own.values.shape[-2])
        see_prompt = shown(prompt_mask, prompt_near, local)
        # The prompt's keys are read once for all of its rows.
        if slots.size > LONG:
            in_prompt = KeySet(*prompt, see_prompt[:, None, None])
            reach = reach_of(window, local)
            mixed = written_attention(split, in_prompt, *own, step, reach=reach)
        else:
            see_own = shown(slots[None, :] <= step, within(step[None], slots, window), local)
            sets = (
                KeySet(*prompt, see_prompt[:, None, None]),
                KeySet(jnp.swapaxes(own.keys, -1, -2), own.values, see_own[None, None, None]),
            )
            mixed = softmax_attention(split, sets)
        mixed = mixed.reshape(batch, kv_heads, samples, -1)
        return heads_first(mixed).reshape(queries.shape), (prompt, own)

    return attend
