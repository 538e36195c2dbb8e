"""Softmax attention over several sets of keys at once, with its gradients written out.

Nothing of the size of the scores outlives the forward pass: it leaves the mixed values and two
numbers a query, and the backward pass computes the scores again (FlashAttention, arXiv 2205.14135,
appendix B.2, without its tiles). That pass has the keys in front, since its large products would
otherwise contract the first axis of a large array, which XLA's CPU backend does at half the speed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

HIDDEN = -1e30  # finite, so that a padding query's softmax has no NaN to leak into gradients
MIXED = "attention_mixed"  # what a rematerialisation has to keep to compute no scores twice


class KeySet(NamedTuple):
    """Keys and values `[*L, S, K]` that queries `[*L, *M, K]` look at where `mask` shows them.

    Queries share the keys along the axes that these lack, `*M`. mask: broadcasts to `[*L, *M, S]`.
    turned: the same with the slots behind `*L`, as the backward pass reads it; of a large mask that
    many layers share, a copy made once is cheaper than a strided read in each.
    """

    keys: Float[Array, "*L S K"]
    values: Float[Array, "*L S K"]
    mask: Bool[Array, "*LM S"]
    turned: Bool[Array, "..."] | None = None


@jax.custom_vjp
def softmax_attention(
    queries: Float[Array, "*Q K"], sets: Sequence[KeySet]
) -> Float[Array, "*Q K"]:
    """softmax(q k / sqrt(K)) v, with one softmax over the keys of all sets.

    Scores, softmax and sums are float32; products, in gradients too, have factors of the arguments'
    dtype. A query that sees nothing gets the mean of all values.
    """
    return _forward(queries, sets)[0]


def _forward(queries, sets):
    scores = [_scores(queries, one) for one in sets]
    # The maximum only guards exp against overflow; the quotient does not depend on it.
    top = jnp.stack([s.max(-1) for s in scores]).max(0)
    total, mixed = jnp.zeros_like(top), jnp.zeros(queries.shape, jnp.float32)
    for one, s in zip(sets, scores):
        weights = jnp.exp(s - top[..., None])
        total = total + weights.sum(-1)
        flat = weights.astype(one.values.dtype).reshape(*_lead(one), -1, s.shape[-1])
        mixed = mixed + _product(flat, one.values).reshape(queries.shape)
    mixed = (mixed / total[..., None]).astype(queries.dtype)
    kept = tuple(checkpoint_name(x, MIXED) for x in (mixed, top, total))
    return kept[0], (queries, tuple(sets), *kept)


def _backward(kept, change):
    queries, sets, mixed, top, total = kept
    scale = queries.shape[-1] ** -0.5
    change = change.astype(jnp.float32) / total[..., None]
    # Scores that are hidden have no gradient, not even of a query that sees nothing.
    seeing = jnp.where(top[..., None] > HIDDEN, change, 0.0)
    common = jnp.sum(seeing * mixed.astype(jnp.float32), axis=-1)
    change, seeing = change.astype(queries.dtype), seeing.astype(queries.dtype)
    of_queries, of_sets = jnp.zeros(queries.shape, jnp.float32), []
    for one in sets:
        lead, slots = _lead(one), one.keys.shape[-2]

        def flat(x, lead=lead):
            return x.reshape(*lead, -1, x.shape[-1])

        def keys_first(x, lead=lead):
            return jnp.expand_dims(x, len(lead))

        shape = (*lead, slots, *queries.shape[len(lead) : -1])
        scores = _product(one.keys, _transposed(flat(queries))).reshape(shape) * scale
        mask = jnp.moveaxis(one.mask, -1, len(lead)) if one.turned is None else one.turned
        weights = jnp.exp(scores + _hiding(mask) - keys_first(top))
        of_weights = _product(one.values, _transposed(flat(seeing))).reshape(shape)
        of_scores = weights * (of_weights - keys_first(common)) * scale
        weights = weights.reshape(*lead, slots, -1).astype(one.values.dtype)
        of_scores = of_scores.reshape(*lead, slots, -1).astype(one.keys.dtype)
        of_keys = _product(of_scores, flat(queries)).astype(one.keys.dtype)
        of_values = _product(weights, flat(change)).astype(one.values.dtype)
        # The barrier keeps the compiler from turning the large factor over instead of the result.
        turned = jax.lax.optimization_barrier(_product(_transposed(one.keys), of_scores))
        of_queries = of_queries + _transposed(turned).reshape(queries.shape)
        of_sets.append(KeySet(of_keys, of_values, None, None))
    return of_queries.astype(queries.dtype), tuple(of_sets)


softmax_attention.defvjp(_forward, _backward)


def _lead(one: KeySet) -> tuple[int, ...]:
    return one.keys.shape[:-2]


def _scores(queries, one):
    flat = queries.reshape(*_lead(one), -1, queries.shape[-1])
    scores = _product(flat, _transposed(one.keys)) * queries.shape[-1] ** -0.5
    return scores.reshape(*queries.shape[:-1], -1) + _hiding(one.mask)


def _hiding(mask):
    # Added, not selected: a selection needs an array of `HIDDEN` as large as the scores.
    return jnp.where(mask, 0.0, HIDDEN)


def _product(one, other):
    return jnp.matmul(one, other, preferred_element_type=jnp.float32)


def _transposed(x):
    return jnp.swapaxes(x, -1, -2)


__all__ = ["HIDDEN", "MIXED", "KeySet", "softmax_attention"]
