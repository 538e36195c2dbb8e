"""Softmax attention in blocks of queries and keys, for rows too long to hold their scores.

What is in memory at a time are the scores of one block of queries with one block of keys
(FlashAttention, arXiv 2205.14135, algorithms 1 and 4), so memory grows with the tokens and not with
their square. The blocks of all sets of keys go into one running softmax, which is the same as a
softmax of each set and a merge by log-sum-exp. Masks are not stored either: tokens say what they
belong to and where they stand, and each pair of blocks compares the two.

In the shape descriptions: `T` query tokens, `S` key slots, `K` head size, `n` blocks.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.policies.softmax_attention import HIDDEN, MIXED

# Tokens of a block. Of the layer in docs/architecture.md, half as many plan no less memory, and
# twice as many more.
BLOCK = 256
# Completions of more slots run in blocks. From 512 slots on blocks take less time on a CPU and a
# quarter of the memory or less (scripts/bench_attention.py lengths). Shorter ones fit anyway, and
# keep their numbers to the last bit.
LONG = 512
LOWEST = HIDDEN / 10  # below all real scores, and so far above hidden ones that these count nothing
ALIGNED = 8  # a block is a multiple of so many tokens, as registers of TPUs and CPUs want
EVERYWHERE = 2**30  # a reach beyond all positions
PADDED_QUERY, PADDED_KEY = -3, -4  # segments of slots behind the last token: they see nothing


class Tokens(NamedTuple):
    """A query sees the keys of its segment that do not stand behind it; broadcast to `[*N, T]`."""

    segment: Int[Array, "*#N T"]
    position: Int[Array, "*#N T"]


class LongKeySet(NamedTuple):
    """Keys and values `[*L, S, K]` that queries `[*L, *M, T, K]` look at.

    Queries share the keys along the axes that these lack, `*M`. seeing, seen: the queries and the
    keys as this set compares them, any of their axes `*L, *M` 1 or whole; None in gradients.
    """

    keys: Float[Array, "*L S K"]
    values: Float[Array, "*L S K"]
    seeing: Tokens | None
    seen: Tokens | None


def block_attention(
    queries: Float[Array, "*Q T K"],
    sets: Sequence[LongKeySet],
    *,
    own: Sequence[bool],
    reach: int | Int[Array, ""] | None = None,
    block: int = BLOCK,
) -> Float[Array, "*Q T K"]:
    """softmax(q k / sqrt(K)) v, with one softmax over the keys of all sets.

    own: of each set, whether its slots are those of the queries and positions of a segment grow by
      one a slot: blocks behind the queries' own, and those out of reach, are then not computed.
    reach: how many positions, its own one counted, a query sees back; None for all.
    block: tokens whose scores exist at a time, in queries and in keys.

    Scores, softmax and sums are float32; products, in gradients too, have factors of the arguments'
    dtype. A query that sees nothing gets zeros.
    """
    return _attention((tuple(own), block), queries, tuple(sets), reach)


def reach_of(
    window: int | None, local: bool | Bool[Array, ""] | None
) -> int | Int[Array, ""] | None:
    """How many positions a query of such a layer sees back, its own one counted; None for all."""
    if window is None or local is None or local is False:
        return None
    return window if local is True else jnp.where(local, window, EVERYWHERE)


class Running(NamedTuple):
    """A softmax over the keys so far: largest score, sum of exponentials below it, mixed values."""

    top: Float[Array, "*Q"]
    total: Float[Array, "*Q"]
    mixed: Float[Array, "*Q K"]


def no_keys(queries: Float[Array, "*Q K"]) -> Running:
    """Before the first key."""
    shape = queries.shape
    return Running(
        jnp.full(shape[:-1], LOWEST, jnp.float32),
        jnp.zeros(shape[:-1], jnp.float32),
        jnp.zeros(shape, jnp.float32),
    )


def with_keys(
    running: Running,
    queries: Float[Array, "*Q K"],
    keys: Float[Array, "*L S K"],
    values: Float[Array, "*L S K"],
    shown: Bool[Array, "*#Q S"],
) -> Running:
    """With more keys, those of them that are shown; queries [*L, *M, K] share them along `*M`."""
    lead = keys.shape[:-2]
    flat = queries.reshape(*lead, -1, queries.shape[-1])
    scores = (_product(flat, _turned(keys)) * _scale(queries)).reshape(*queries.shape[:-1], -1)
    scores = jnp.where(shown, scores, HIDDEN)
    top = jnp.maximum(running.top, scores.max(-1))
    weights, before = jnp.exp(scores - top[..., None]), jnp.exp(running.top - top)
    flat = weights.astype(values.dtype).reshape(*lead, -1, values.shape[-2])
    added = _product(flat, values).reshape(queries.shape)
    total = running.total * before + weights.sum(-1)
    return Running(top, total, running.mixed * before[..., None] + added)


def mixed_of(running: Running, dtype: jnp.dtype) -> tuple[Float[Array, "*Q K"], Float[Array, "*Q"]]:
    """The mean of the values by the softmax, zero where no key was shown, and the log-sum-exp."""
    some = jnp.where(running.total > 0, running.total, 1.0)
    return (running.mixed / some[..., None]).astype(dtype), running.top + jnp.log(some)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(options, queries, sets, reach):
    return _forward(options, queries, sets, reach)[0]


def _forward(options, queries, sets, reach):
    own, block = options
    size = _block_size(queries.shape[-2], block)
    cut = [_cut_set(one, block) for one in sets]

    def of_block(_, of_queries):
        index, queries, seeing = of_queries
        state = no_keys(queries)
        for one, tokens, is_own in zip(cut, seeing, own):

            def add(j, state, one=one, tokens=tokens):
                keys, values, _, seen = jax.tree.map(lambda x: x[j], one)
                return with_keys(state, queries, keys, values, _shown(tokens, seen, reach))

            state = jax.lax.fori_loop(*_seen_blocks(one, index, size, reach, is_own), add, state)
        return (), mixed_of(state, queries.dtype)

    blocks = (
        _cut(queries, size),
        [_cut_tokens(one.seeing, queries.shape[-2], size, PADDED_QUERY) for one in sets],
    )
    numbers = jnp.arange(blocks[0].shape[0])
    _, found = jax.lax.scan(of_block, (), (numbers, *blocks))
    mixed, log_total = (checkpoint_name(x, MIXED) for x in found)
    return _joined(mixed, queries.shape), (queries, sets, reach, mixed, log_total)


def _backward(options, kept, change):
    own, block = options
    queries, sets, reach, mixed, log_total = kept
    size = _block_size(queries.shape[-2], block)
    cut = [_cut_set(one, block) for one in sets]

    def of_block(of_sets, of_queries):
        index, queries, mixed, log_total, change, seeing = of_queries
        wide = change.astype(jnp.float32)
        common = jnp.sum(wide * mixed.astype(jnp.float32), axis=-1)
        change = change.astype(queries.dtype)
        of_queries, renewed = jnp.zeros(queries.shape, jnp.float32), []
        for one, tokens, is_own, sums in zip(cut, seeing, own, of_sets):

            def add(j, state, one=one, tokens=tokens):
                # The keys in front, as in softmax_attention.py.
                of_queries, of_keys, of_values = state
                keys, values, _, seen = jax.tree.map(lambda x: x[j], one)
                lead = keys.shape[:-2]

                def flat(x):
                    return x.reshape(*lead, -1, x.shape[-1])

                def in_front(x):
                    return jnp.expand_dims(x, len(lead))

                shape = (*lead, keys.shape[-2], *queries.shape[len(lead) : -1])
                scores = _product(keys, _turned(flat(queries))).reshape(shape) * _scale(queries)
                shown = jnp.moveaxis(_shown(tokens, seen, reach), -1, len(lead))
                weights = jnp.exp(jnp.where(shown, scores, HIDDEN) - in_front(log_total))
                of_weights = _product(values, _turned(flat(change))).reshape(shape)
                of_scores = weights * (of_weights - in_front(common)) * _scale(queries)
                rows = (*lead, keys.shape[-2], -1)
                weights = weights.reshape(rows).astype(values.dtype)
                of_scores = of_scores.reshape(rows).astype(keys.dtype)
                of_keys = of_keys.at[j].add(_product(of_scores, flat(queries)))
                of_values = of_values.at[j].add(_product(weights, flat(change)))
                # The barrier keeps the compiler from turning the large factor over instead.
                turned = jax.lax.optimization_barrier(_product(_turned(keys), of_scores))
                return of_queries + _turned(turned).reshape(queries.shape), of_keys, of_values

            bounds = _seen_blocks(one, index, size, reach, is_own)
            of_queries, *sums = jax.lax.fori_loop(*bounds, add, (of_queries, *sums))
            renewed.append(tuple(sums))
        return renewed, of_queries.astype(queries.dtype)

    zeros = [tuple(jnp.zeros(x.shape, jnp.float32) for x in one[:2]) for one in cut]
    tokens = [_cut_tokens(one.seeing, queries.shape[-2], size, PADDED_QUERY) for one in sets]
    blocks = (_cut(queries, size), mixed, log_total, _cut(change, size), tokens)
    of_sets, of_queries = jax.lax.scan(of_block, zeros, (jnp.arange(len(mixed)), *blocks))
    joined = [
        LongKeySet(*(_joined(x, one.keys.shape).astype(one.keys.dtype) for x in sums), None, None)
        for one, sums in zip(sets, of_sets)
    ]
    return _joined(of_queries, queries.shape), tuple(joined), None


_attention.defvjp(_forward, _backward)


def _block_size(length: int, block: int) -> int:
    """Tokens of a block: as even as can be, so that little is padded."""
    return -(-length // (-(-length // block) * ALIGNED)) * ALIGNED


def _cut_set(one, block):
    """Blocks of keys, values and tokens; an own set has the slots of the queries, so their size."""
    length = one.keys.shape[-2]
    size = _block_size(length, block)
    tokens = _cut_tokens(one.seen, length, size, PADDED_KEY)
    return LongKeySet(_cut(one.keys, size), _cut(one.values, size), None, tokens)


def _cut(x, size):
    """[*N, T, K] -> [n, *N, size, K], with zeros behind the last token."""
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, -x.shape[-2] % size), (0, 0)])
    return jnp.moveaxis(x.reshape(*x.shape[:-2], -1, size, x.shape[-1]), -3, 0)


def _cut_tokens(tokens, length, size, segment):
    """[*N, T or 1] -> [n, *N, size], in a segment of their own behind the last token."""

    def cut(x, fill):
        x = jnp.broadcast_to(x, (*x.shape[:-1], length))
        pads = [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % size)]
        x = jnp.pad(x, pads, constant_values=fill)
        return jnp.moveaxis(x.reshape(*x.shape[:-1], -1, size), -2, 0)

    return Tokens(cut(tokens.segment, segment), cut(tokens.position, 0))


def _joined(x, shape):
    """[n, *N, size, K] -> [*N, T, K] of that shape."""
    x = jnp.moveaxis(x, 0, -3)
    return x.reshape(*shape[:-2], -1, shape[-1])[..., : shape[-2], :]


def _seen_blocks(one, index, size, reach, is_own):
    """From which block of keys to which one the block `index` of queries sees anything."""
    if not is_own:
        return 0, one.keys.shape[0]
    first = 0 if reach is None else jnp.maximum(index * size - reach + 1, 0) // size
    return first, index + 1


def _shown(seeing, seen, reach):
    """Which keys each query sees [*N, T, S]."""
    behind = seeing.position[..., :, None] - seen.position[..., None, :]
    same = seeing.segment[..., :, None] == seen.segment[..., None, :]
    shown = same & (behind >= 0)
    return shown if reach is None else shown & (behind < reach)


def _scale(queries):
    return queries.shape[-1] ** -0.5


def _product(one, other):
    return jnp.matmul(one, other, preferred_element_type=jnp.float32)


def _turned(x):
    return jnp.swapaxes(x, -1, -2)


__all__ = [
    "BLOCK",
    "LONG",
    "LongKeySet",
    "Running",
    "Tokens",
    "block_attention",
    "mixed_of",
    "no_keys",
    "reach_of",
    "with_keys",
]
