"""log softmax of the logits at given tokens, a chunk of positions at a time, and its gradients.

No array of all tokens by the vocabulary exists, forward or backward. Where the output table is not
trained (adapters), the forward pass already computes the gradient of each log-prob to its own
hidden state, D numbers a token, and the backward pass only scales them; else the backward pass
computes each chunk's logits again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jaxtyping import Array, Float, Int, PyTree

from gdpo_jax.policies.policy import Params, Policy


def token_log_probs(
    policy: Policy,
    params: Params,
    hidden: Float[Array, "B G C D"],
    tokens: Int[Array, "B G C"],
    *,
    chunk: int | None,
    temperature: float = 1.0,
    with_entropy: bool = True,
    entropy_gradient: bool = True,
) -> tuple[Float[Array, "B G C"], Float[Array, "B G C"] | None]:
    """log softmax(logits / temperature) at `tokens`, and the entropy, `chunk` positions at a time.

    The scan runs over completion positions, not over flattened tokens: that axis is never sharded,
    so chunks need no gather across devices.
    """

    def of_chunk(hidden, table, tokens):
        logits = policy.logits(hidden, table) / temperature
        log_probs, entropy = _of_logits(policy.placement.pick, logits, tokens)
        if not with_entropy:
            return (log_probs,)
        return log_probs, entropy if entropy_gradient else jax.lax.stop_gradient(entropy)

    def of_rows(hidden, output, tokens):
        length = tokens.shape[2]
        if chunk is None or chunk >= length:
            return of_chunk(hidden, policy.table(output), tokens)
        extra = -length % chunk
        hidden = jnp.pad(hidden, ((0, 0), (0, 0), (0, extra), (0, 0)))
        tokens = jnp.pad(tokens, ((0, 0), (0, 0), (0, extra)))
        functions = _Functions(of_chunk, policy.table, with_entropy and entropy_gradient)
        stacked = _scanned(functions, _split(hidden, chunk), output, _split(tokens, chunk))
        return tuple(_join(x)[:, :, :length] for x in stacked)

    outputs = policy.placement.map_rows(of_rows)(hidden, policy.output(params), tokens)
    return outputs[0], outputs[1] if with_entropy else None


def _split(x, chunk):
    return jnp.moveaxis(x.reshape(*x.shape[:2], -1, chunk, *x.shape[3:]), 2, 0)


def _join(x):
    x = jnp.moveaxis(x, 0, 2)
    return x.reshape(*x.shape[:2], -1)


class _Functions(NamedTuple):
    """of_chunk(hidden, table, tokens) -> outputs. sloped: whether the second has a gradient too."""

    of_chunk: Callable[..., tuple[Array, ...]]
    table_of: Callable[[PyTree], PyTree]
    sloped: bool


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scanned(functions, hidden, output, tokens):
    """Outputs of all chunks, stacked."""

    def body(carry, chunk):
        hidden, tokens = chunk
        # Of a table made in here a product needs no copy; outside it would be one for the loop.
        return carry, functions.of_chunk(hidden, functions.table_of(output), tokens)

    return jax.lax.scan(body, (), (hidden, tokens))[1]


def _forward(functions, hidden, output, tokens):
    trained = any(leaf.perturbed for leaf in jax.tree.leaves(output, is_leaf=_is_primal))
    hidden, output, tokens = jax.tree.map(
        lambda x: x.value, (hidden, output, tokens), is_leaf=_is_primal
    )
    if trained:
        return _scanned(functions, hidden, output, tokens), (hidden, output, tokens)

    def body(carry, chunk):
        hidden, tokens = chunk
        table = functions.table_of(output)
        outputs, pull = jax.vjp(lambda hidden: functions.of_chunk(hidden, table, tokens), hidden)

        def slopes(index):
            # A token's outputs depend on its own hidden state alone: ones give every gradient.
            ones = [jnp.full_like(x, i == index) for i, x in enumerate(outputs)]
            return pull(tuple(ones))[0]

        return carry, (outputs, [slopes(0), slopes(1)] if functions.sloped else [slopes(0)])

    outputs, slopes = jax.lax.scan(body, (), (hidden, tokens))[1]
    return outputs, (slopes,)


def _backward(functions, kept, changes):
    if len(kept) == 1:
        (slopes,) = kept
        of_hidden = jnp.zeros(slopes[0].shape, jnp.float32)
        for slope, change in zip(slopes, changes):
            if not isinstance(change, SymbolicZero):
                of_hidden = of_hidden + slope.astype(jnp.float32) * change[..., None]
        return of_hidden.astype(slopes[0].dtype), None, None
    hidden, output, tokens = kept
    changes = tuple(
        jnp.zeros(x.shape, x.dtype) if isinstance(x, SymbolicZero) else x for x in changes
    )
    table, pull_table = jax.vjp(functions.table_of, output)

    def body(of_table, chunk):
        hidden, tokens, changes = chunk
        _, pull = jax.vjp(lambda *factors: functions.of_chunk(*factors, tokens), hidden, table)
        of_hidden, added = pull(changes)
        return jax.tree.map(lambda a, b: a + b.astype(a.dtype), of_table, added), of_hidden

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), table)
    of_table, of_hidden = jax.lax.scan(body, zeros, (hidden, tokens, changes))
    of_table = jax.tree.map(lambda a, b: a.astype(b.dtype), of_table, table)
    return of_hidden, *pull_table(of_table), None


_scanned.defvjp(_forward, _backward, symbolic_zeros=True)


def _is_primal(x: Any) -> bool:
    return isinstance(x, CustomVJPPrimal)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _of_logits(
    pick: Callable[[Array, Array], Array], logits: Float[Array, "*N V"], tokens: Int[Array, "*N"]
) -> tuple[Float[Array, "*N"], Float[Array, "*N"]]:
    """log softmax(logits) at `tokens`, and the entropy.

    One exponential a logit, which is what a large vocabulary costs. The derivative is written out,
    because that of a gather is a scatter into zeros as large as the logits; written so, all that
    the backward pass makes of them is one array.
    """
    below, weights, total = _softmax_parts(logits)
    return _chosen(pick, below, tokens, total), _entropy(below, weights, total)


@_of_logits.defjvp
def _of_logits_jvp(pick, primals, tangents):
    logits, tokens = primals
    change = tangents[0]
    below, weights, total = _softmax_parts(logits)
    chosen, entropy = _chosen(pick, below, tokens, total), _entropy(below, weights, total)
    probs = weights / total[..., None]
    hot = jax.nn.one_hot(tokens, logits.shape[-1], dtype=logits.dtype)
    log_probs = below - jnp.log(total)[..., None]
    of_entropy = probs * (log_probs + entropy[..., None])
    of_both = jnp.sum((hot - probs) * change, axis=-1), -jnp.sum(of_entropy * change, axis=-1)
    return (chosen, entropy), of_both


def _softmax_parts(logits):
    """Logits below the largest one [*N, V], their exponentials, and the sum of these [*N]."""
    below = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(below)
    return below, weights, jnp.sum(weights, axis=-1)


def _chosen(pick, below, tokens, total):
    return pick(below, tokens) - jnp.log(total)


def _entropy(below, weights, total):
    # Two terms that are never negative: nothing cancels, however large the logits.
    return jnp.log(total) - jnp.sum(weights * below, axis=-1) / total


__all__ = ["token_log_probs"]
