"""Logits: the product of hidden states with the output table, and its gradients.

The gradients are written out. Left to automatic differentiation, that of the table is a product
whose first factor is the gradient of the logits, transposed, and XLA's CPU backend computes this
array, the largest of all, column by column, far slower than the same numbers row by row
(`scripts/bench_vocabulary.py`).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@jax.custom_vjp
def vocabulary_logits(
    hidden: Float[Array, "*N D"], table: Float[Array, "D V"]
) -> Float[Array, "*N V"]:
    """`hidden @ table` in float32; both factors have one dtype, which their gradients take.

    Products of the backward pass have factors of that dtype too, and float32 sums.
    """
    return _product(hidden, table)


def _product(one, other):
    return jnp.matmul(one, other, preferred_element_type=jnp.float32)


def _forward(hidden, table):
    return _product(hidden, table), (hidden, table)


def _backward(factors, change):
    hidden, table = factors
    change = change.astype(hidden.dtype)
    rows = hidden.reshape(-1, hidden.shape[-1])
    of_table = _product(rows.T, change.reshape(-1, change.shape[-1]))
    return _product(change, table.T).astype(hidden.dtype), of_table.astype(table.dtype)


vocabulary_logits.defvjp(_forward, _backward)


def pick_by_gather(values: Float[Array, "*N V"], tokens: Int[Array, "*N"]) -> Float[Array, "*N"]:
    """The values at `tokens`."""
    return jnp.take_along_axis(values, tokens[..., None], axis=-1)[..., 0]


def pick_by_sum(values: Float[Array, "*N V"], tokens: Int[Array, "*N"]) -> Float[Array, "*N"]:
    """The same where devices cut the vocabulary: each gives what it has, and no values move."""
    entries = jax.lax.broadcasted_iota(tokens.dtype, values.shape, values.ndim - 1)
    return jnp.sum(jnp.where(entries == tokens[..., None], values, 0.0), axis=-1)


__all__ = ["pick_by_gather", "pick_by_sum", "vocabulary_logits"]
