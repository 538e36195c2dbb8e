"""The learning kernel between prompts at the first generated token, the diagnostic of DCR (arXiv
2603.03323, section on learning dynamics).

A step of gradient descent on prompt x changes the logits z of prompt x' in proportion to
`K(x', x) = J(x') J(x)^T`, J the Jacobian of z by the parameters (the empirical neural tangent
kernel, arXiv 1806.07572). Reported is `||K(x', x)||_F / ||K(x', x')||_F`: how much a step on x does
to x' beside what a step on x' does. Products with J are Jacobian-vector and vector-Jacobian
products, exact, and J never exists as a whole.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.data import pad_right
from gdpo_jax.errors import UserError
from gdpo_jax.policies import Params, Policy, partial_policy, split_params
from gdpo_jax.policies.attention import Attend, causal_mask, shown, within
from gdpo_jax.policies.partial import Mask, checked_mask
from gdpo_jax.prompts import Prompt, encode_prompt
from gdpo_jax.recipe import Model

__all__ = [
    "PromptRows",
    "block_means",
    "first_token_logits",
    "jacobian_kernel_norms",
    "kernel_norms",
    "prompt_rows",
    "relative_norms",
]

# f(trained, others, input) -> logits [K].
Outputs = Callable[[Any, Any, Any], Float[Array, "K"]]


class PromptRows(NamedTuple):
    """Padded prompts, their lengths, and the tokens whose logits at the first generated token are
    looked at."""

    prompts: Int[Array | np.ndarray, "N P"]
    lengths: Int[Array | np.ndarray, "N"]
    tokens: Int[Array | np.ndarray, "N K"]


def kernel_norms(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    top_k: int | None = 10,
    mask: Mask = True,
    batch_size: int = 8,
) -> Float[np.ndarray, "N N"]:
    """`||K(x', x)||_F` of all pairs of prompts, x' in rows and x in columns.

    top_k: logits of so many most likely first tokens of each prompt, None for all of them. mask:
    the parameters of the kernel (`gdpo_jax.policies.partial`), such as {"layers": -2, "head":
    True}. batch_size: prompts x' at a time, which decides about memory.

    The work is `N top_k` forward passes over all N prompts. Raises UserError for prompts that
    cannot be encoded or are too long, and for a mask that does not fit.
    """
    rows = prompt_rows(model, prompts, top_k=top_k)
    parts = split_params(model.params, checked_mask(model.params, mask))
    outputs = _logits_by_parts(partial_policy(model.policy, mask))
    return jacobian_kernel_norms(
        outputs, parts["trained"], parts["frozen"], rows, batch_size=batch_size
    )


# Kept, so that models of one policy share the programs made of it.
@functools.lru_cache(maxsize=8)
def _logits_by_parts(policy: Policy) -> Outputs:
    """The first token's logits by the trained and the frozen part of a partial policy's
    parameters."""

    def outputs(trained: Params, frozen: Params, row: PromptRows) -> Float[Array, "K"]:
        return first_token_logits(policy, {"trained": trained, "frozen": frozen}, row)

    return outputs


def jacobian_kernel_norms(
    outputs: Outputs, trained: Any, others: Any, inputs: Any, *, batch_size: int = 8
) -> Float[np.ndarray, "N N"]:
    """`||J(x') J(x)^T||_F` of all pairs of inputs, J the Jacobian of `outputs` by `trained`.

    outputs(trained, others, input) -> numbers [K]. inputs: a tree of arrays with N inputs in front.
    Column i of the product is a Jacobian-vector product at x' of a vector-Jacobian product at x.
    The program of the last few functions is kept for the next call with the same one.
    """
    program = _norms_program(outputs)
    [count, *_] = {leaf.shape[0] for leaf in jax.tree.leaves(inputs)}
    size = min(batch_size, count)
    norms = np.empty((count, count))
    for first in range(0, count, size):
        # The last batch reaches back, so that one program serves all.
        at = min(first, count - size)
        some = jax.tree.map(lambda x: x[at : at + size], inputs)  # noqa: B023
        for column in range(count):
            one = jax.tree.map(lambda x: x[column], inputs)  # noqa: B023
            norms[at : at + size, column] = program(trained, others, one, some)
    return norms


@functools.lru_cache(maxsize=8)
def _norms_program(outputs: Outputs) -> Callable[..., Float[Array, "S"]]:
    return jax.jit(functools.partial(_norms_against, outputs))


def _norms_against(
    outputs: Outputs, trained: Any, others: Any, one: Any, some: Any
) -> Float[Array, "S"]:
    made, pull = jax.vjp(lambda part: outputs(part, others, one), trained)
    of_some = jax.vmap(outputs, in_axes=(None, None, 0))
    _, push = jax.linearize(lambda part: of_some(part, others, some), trained)
    # One column at a time: each is a gradient as large as the parameters.
    columns = jax.lax.map(lambda way: push(*pull(way)), jnp.eye(made.size, dtype=made.dtype))
    return jnp.sqrt(jnp.sum(jnp.square(columns), axis=(0, 2)))


def relative_norms(norms: Float[np.ndarray, "N N"]) -> Float[np.ndarray, "N N"]:
    """`||K(x', x)||_F / ||K(x', x')||_F`, x' in rows.

    Raises UserError where a prompt's own is 0.
    """
    own = np.diag(norms)
    if not (own > 0).all():
        raise UserError(
            f"prompt {int(np.argmin(own > 0))} has a kernel of 0 with itself: its logits do not "
            "depend on the parameters of the mask"
        )
    return norms / own[:, None]


def block_means(
    relative: Float[np.ndarray, "N N"], kinds: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The mean over pairs of different prompts, by the kind of x' and then of x; NaN where there
    is no such pair."""
    if relative.shape != (len(kinds), len(kinds)):
        raise UserError(f"{len(kinds)} kinds do not fit norms of shape {relative.shape}")
    found, names = np.asarray(kinds), sorted(set(kinds))
    apart = ~np.eye(len(kinds), dtype=bool)

    def mean(row: str, column: str) -> float:
        block = relative[(found == row)[:, None] & (found == column)[None, :] & apart]
        return float(block.mean()) if block.size else float("nan")

    return {row: {column: mean(row, column) for column in names} for row in names}


def prompt_rows(model: Model, prompts: Sequence[Prompt], *, top_k: int | None = 10) -> PromptRows:
    """Prompts as `kernel_norms` takes them, with the most likely first tokens of each.

    Raises UserError for prompts that cannot be encoded or are too long, and a top_k out of range.
    """
    rows = [encode_prompt(model.tokenizer, prompt) for prompt in prompts]
    config = model.policy.config
    if not rows or max(map(len, rows)) > config.max_positions:
        raise UserError(f"give prompts of at most {config.max_positions} tokens, its positions")
    count = config.vocab_size if top_k is None else top_k
    if not 1 <= count <= config.vocab_size:
        raise UserError(f"top_k must be from 1 to {config.vocab_size}, or None, got {top_k}")
    width = max(map(len, rows))
    padded, lengths = pad_right(rows, width, pad_id=model.tokenizer.pad_id, what="prompt")
    every = np.arange(config.vocab_size, dtype=np.int32)
    tokens = np.broadcast_to(every, (len(rows), config.vocab_size))
    if top_k is not None:
        likeliest = _likeliest(model.policy, count)
        tokens = np.stack([likeliest(model.params, *row) for row in zip(padded, lengths, tokens)])
    return PromptRows(padded, lengths, tokens)


@functools.lru_cache(maxsize=8)
def _likeliest(policy: Policy, count: int) -> Callable[..., Int[Array, "K"]]:
    """The most likely first tokens of a row with all of them."""

    def likeliest(params: Params, *row: Array) -> Int[Array, "K"]:
        logits = first_token_logits(policy, params, PromptRows(*row))
        return jax.lax.top_k(logits, count)[1]

    return jax.jit(likeliest)


def first_token_logits(
    policy: Policy, params: Params, row: PromptRows, *, behind: Params | None = None
) -> Float[Array, "K"]:
    """Float32 logits of the row's tokens behind the prompt; row: of one prompt, without N.

    behind: parameters of the last layers (`Policy.split_layers`); `row.prompts` are then the hidden
    states [P, D] before them. Unlike a policy's own attention and logits, whose gradients are
    written out, all of it can be differentiated forward.
    """
    size = row.prompts.shape[0]
    positions = jnp.arange(size)[None, :]
    near = within(positions, positions, policy.config.window)
    attend = _plain_attention(causal_mask(row.lengths[None], size), near)
    own = params if behind is None else behind
    hidden, _ = policy.hidden_states(own, row.prompts[None], positions, attend)
    last = jnp.take(hidden[0], row.lengths - 1, axis=0)
    columns = jnp.take(policy.table(policy.output(params)), row.tokens, axis=1)
    return jnp.matmul(last, columns, preferred_element_type=jnp.float32)


def _plain_attention(mask: Bool[Array, "N T T"], near: Bool[Array, "N T T"] | None) -> Attend:
    """softmax(q k / sqrt(K)) v over the slots that `mask` shows, R = H / J queries a key."""

    def attend(queries, keys, values, cache, local):
        rows, size, heads, head_dim = queries.shape
        grouped = queries.reshape(rows, size, keys.shape[2], -1, head_dim).astype(jnp.float32)
        scores = jnp.einsum("ntjrk,nsjk->njrts", grouped, keys.astype(jnp.float32))
        seen = shown(mask, near, local)[:, None, None]
        weights = jax.nn.softmax(jnp.where(seen, scores * head_dim**-0.5, -1e30), axis=-1)
        mixed = jnp.einsum("njrts,nsjk->ntjrk", weights, values.astype(jnp.float32))
        return mixed.reshape(rows, size, heads, head_dim).astype(queries.dtype), cache

    return attend
