"""Layouts of attention: which query sees which key, as functions that a decoder layer calls.

A layer projects its tokens to queries, keys and values and leaves the rest to an `Attend` function,
so one decoder serves training rows, shared prompts, prefill and cached decoding. In the shape
descriptions: `N` rows, `T` query tokens, `S` key slots, `B` prompts, `G` samples a prompt, `P`
prompt length, `C` completion length, `H` query heads, `J` key heads, `R = H / J`, `K` head size.

Scores and softmax are float32. A query that sees nothing gets finite values, never NaN.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

HIDDEN = -1e30  # finite, so that a padding query's softmax has no NaN to leak into gradients


class Attend(Protocol):
    """Mixes values by queries and keys; `cache` is this layer's own and is returned renewed."""

    def __call__(
        self,
        queries: Float[Array, "N T H K"],
        keys: Float[Array, "N T J K"],
        values: Float[Array, "N T J K"],
        cache: PyTree,
    ) -> tuple[Float[Array, "N T H K"], PyTree]: ...


class KeyValues(NamedTuple):
    """Keys and values of the tokens seen so far, of one layer or stacked over layers."""

    keys: Shaped[Array, "..."]
    values: Shaped[Array, "..."]


def group_heads(queries: Float[Array, "*N H K"], num_kv_heads: int) -> Float[Array, "*N J R K"]:
    """The query heads as [J, R]: R consecutive ones share one key head."""
    *lead, num_heads, head_dim = queries.shape
    return queries.reshape(*lead, num_kv_heads, num_heads // num_kv_heads, head_dim)


def masked_attention(
    queries: Float[Array, "N T H K"],
    keys: Float[Array, "N S J K"],
    values: Float[Array, "N S J K"],
    mask: Bool[Array, "N T S"],
) -> Float[Array, "N T H K"]:
    """softmax(q k / sqrt(K)) v over the slots that `mask` shows."""
    grouped = group_heads(queries, keys.shape[2])
    scores = jnp.einsum("ntjrk,nsjk->njrts", grouped, keys, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, None], scores * queries.shape[-1] ** -0.5, HIDDEN)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("njrts,nsjk->ntjrk", weights, values).reshape(queries.shape)


def masked(mask: Bool[Array, "N T S"]) -> Attend:
    """Every row alone: query t sees the keys of its own row that `mask` shows (S = T)."""

    def attend(queries, keys, values, cache):
        return masked_attention(queries, keys, values, mask), cache

    return attend


def remembering(mask: Bool[Array, "N T T"]) -> Attend:
    """As `masked`, and the layer's keys and values come back as its cache (prefill)."""

    def attend(queries, keys, values, cache):
        return masked_attention(queries, keys, values, mask), KeyValues(keys, values)

    return attend


def cached(mask: Bool[Array, "N T S"], start: Int[Array, ""]) -> Attend:
    """Tokens fill cache slots `start .. start + T - 1`; `mask` says which of all S they see."""

    def attend(queries, keys, values, cache):
        zero = jnp.zeros_like(start)
        at = (zero, start, zero, zero)
        cache = KeyValues(
            jax.lax.dynamic_update_slice(cache.keys, keys, at),
            jax.lax.dynamic_update_slice(cache.values, values, at),
        )
        return masked_attention(queries, cache.keys, cache.values, mask), cache

    return attend


def causal_mask(lengths: Int[Array, "N"], num_slots: int) -> Bool[Array, "N T T"]:
    """Query t sees the slots s <= t of the first `lengths` ones (right-padded rows)."""
    slots = jnp.arange(num_slots)
    causal = slots[:, None] >= slots[None, :]
    return causal[None] & (slots[None, None, :] < lengths[:, None, None])


def joint_attention(
    queries: Float[Array, "B G C J R K"],
    prompt: KeyValues,
    own: KeyValues,
    prompt_mask: Bool[Array, "B P"],
    own_mask: Bool[Array, "C D"],
) -> Float[Array, "B G C J R K"]:
    """Completion queries over the keys of their prompt [B,P,J,K] and of their own row [B,G,D,J,K].

    One softmax over both sets without joining them: the prompt's keys are read once for all G rows.
    """
    scale = queries.shape[-1] ** -0.5
    to_prompt = jnp.einsum(
        "bgcjrk,bpjk->bjrgcp", queries, prompt.keys, preferred_element_type=jnp.float32
    )
    to_own = jnp.einsum(
        "bgcjrk,bgdjk->bgjrcd", queries, own.keys, preferred_element_type=jnp.float32
    )
    to_prompt = jnp.where(prompt_mask[:, None, None, None, None], to_prompt * scale, HIDDEN)
    to_own = jnp.where(own_mask[None, None, None, None], to_own * scale, HIDDEN)
    # The maximum only guards exp against overflow; the quotient does not depend on it.
    to_own = jnp.moveaxis(to_own, 1, 3)
    top = jnp.maximum(to_prompt.max(-1, keepdims=True), to_own.max(-1, keepdims=True))
    top = jax.lax.stop_gradient(top)
    prompt_weights, own_weights = jnp.exp(to_prompt - top), jnp.exp(to_own - top)
    total = prompt_weights.sum(-1) + own_weights.sum(-1)
    dtype = prompt.values.dtype
    mixed = jnp.einsum(
        "bjrgcp,bpjk->bgcjrk",
        prompt_weights.astype(dtype),
        prompt.values,
        preferred_element_type=jnp.float32,
    ) + jnp.einsum(
        "bjrgcd,bgdjk->bgcjrk",
        own_weights.astype(dtype),
        own.values,
        preferred_element_type=jnp.float32,
    )
    return (mixed / jnp.transpose(total, (0, 3, 4, 1, 2))[..., None]).astype(dtype)


def grouped(prompt_lengths: Int[Array, "B"], *, prompt_size: int, num_samples: int) -> Attend:
    """Rows of one prompt and its G completions: [B, P + G*C] tokens, the prompt first.

    The prompt sees itself causally; a completion sees the prompt and itself, never another one.
    The blocks that a dense mask would hide are not computed.
    """
    prompt_causal = causal_mask(prompt_lengths, prompt_size)
    prompt_mask = jnp.arange(prompt_size)[None, :] < prompt_lengths[:, None]

    def attend(queries, keys, values, cache):
        rows, size = queries.shape[0], queries.shape[1] - prompt_size
        if size % num_samples:
            raise ValueError(f"{size} completion tokens do not divide into {num_samples} samples")
        length = size // num_samples
        kv_heads = keys.shape[2]

        def completions(x):
            return x[:, prompt_size:].reshape(rows, num_samples, length, *x.shape[2:])

        slots = jnp.arange(length)
        prompt = KeyValues(keys[:, :prompt_size], values[:, :prompt_size])
        from_prompt = masked_attention(queries[:, :prompt_size], *prompt, prompt_causal)
        from_completions = joint_attention(
            group_heads(completions(queries), kv_heads),
            prompt,
            KeyValues(completions(keys), completions(values)),
            prompt_mask,
            slots[:, None] >= slots[None, :],
        )
        from_completions = from_completions.reshape(rows, size, *queries.shape[2:])
        return jnp.concatenate([from_prompt, from_completions], axis=1), cache

    return attend


def empty_completion_cache(
    shape: tuple[int, int, int], num_kv_heads: int, head_dim: int, dtype: jnp.dtype
) -> KeyValues:
    """One layer's slots for B*G completions of C tokens: `[B, G, C, J, K]` each."""
    zeros = jnp.zeros((*shape, num_kv_heads, head_dim), dtype)
    return KeyValues(zeros, zeros)


def decoding(prompt_mask: Bool[Array, "B P"], step: Int[Array, ""]) -> Attend:
    """One new token of each completion: rows `[B, G]`, over the prompt's cache and the row's own.

    The layer's cache is a pair (prompt [B,P,J,K], own [B,G,C,J,K]); the token goes to own slot `step`.
    """

    def attend(queries, keys, values, cache):
        prompt, own = cache
        zero = jnp.zeros_like(step)
        at = (zero, zero, step, zero, zero)
        own = KeyValues(
            jax.lax.dynamic_update_slice(own.keys, keys[:, :, None], at),
            jax.lax.dynamic_update_slice(own.values, values[:, :, None], at),
        )
        grouped_queries = group_heads(queries, keys.shape[2])[:, :, None]
        seen = jnp.arange(own.keys.shape[2])[None, :] <= step
        mixed = joint_attention(grouped_queries, prompt, own, prompt_mask, seen)
        return mixed.reshape(queries.shape), (prompt, own)

    return attend
