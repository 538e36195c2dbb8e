"""How likely given answers to prompts are under a policy, and what else it could have said."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from gdpo_jax.data import pad_right
from gdpo_jax.errors import UserError
from gdpo_jax.models import Model
from gdpo_jax.policies import Policy
from gdpo_jax.policies.log_probs import plain_hidden
from gdpo_jax.training import (
    ShardingRules,
    batch_sharding,
    batch_shards,
    make_log_prob_step,
    to_global,
    to_local,
)
from gdpo_jax.training.mesh import placed

__all__ = ["answer_log_probs", "next_token_log_probs"]


def answer_log_probs(
    model: Model,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    *,
    batch_size: int,
) -> Float[np.ndarray, "N K"]:
    """The log-probability of each of `K` answers to each of `N` prompts, all as token ids.

    Sums over an answer's tokens, natural logarithm, at temperature 1. All prompts are padded to the
    longest, and all answers.
    """
    several = len(answers[0]) if answers else 0
    if not prompts:
        return np.zeros((0, several))
    wide = max(map(len, prompts))
    long = max(len(answer) for own in answers for answer in own)
    step = _log_prob_step(model.policy, model.mesh, model.rules)
    pad_id, found = model.tokenizer.pad_id, []
    for places in _batches(model, len(prompts), batch_size):
        padded = pad_right([prompts[n] for n in places], wide, pad_id=pad_id, what="prompt")
        flat = [answer for n in places for answer in answers[n]]
        ids, lengths = pad_right(flat, long, pad_id=pad_id, what="answer")
        mask = (np.arange(long) < lengths[:, None]).reshape(len(places), several, long)
        batch = to_global((*padded, ids.reshape(mask.shape), mask), model.mesh)
        of_tokens = to_local(step(model.params, *batch))
        found.append(np.where(mask, of_tokens, 0.0).sum(axis=-1))
    return np.concatenate(found)[: len(prompts)]


def next_token_log_probs(
    model: Model,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    batch_size: int,
) -> Iterator[Float[np.ndarray, "B T V"]]:
    """The log-probability of every token of the vocabulary at each place of the answer to each
    prompt, all as token ids, for as many of them at a time as a batch has.

    Natural logarithm, at temperature 1. All prompts are padded to the longest, and all answers to
    `T` tokens; what stands behind an answer's end means nothing. Raises UserError where the longest
    prompt and answer are too long for the policy together.
    """
    if not prompts:
        return
    wide, long = max(map(len, prompts)), max(map(len, answers))
    if wide + long > model.policy.config.max_positions:
        raise UserError(
            f"a prompt of {wide} and an answer of {long} tokens exceed the policy's "
            f"{model.policy.config.max_positions} positions; give shorter ones"
        )
    step = _vocabulary_step(model.policy, model.mesh, model.rules)
    pad_id, left = model.tokenizer.pad_id, len(prompts)
    for places in _batches(model, len(prompts), batch_size):
        padded = pad_right([prompts[n] for n in places], wide, pad_id=pad_id, what="prompt")
        ids, _ = pad_right([answers[n] for n in places], long, pad_id=pad_id, what="answer")
        found = to_local(step(model.params, *to_global((*padded, ids), model.mesh)))
        yield found[:left]
        left -= len(places)


def _batches(model: Model, count: int, batch_size: int) -> Iterator[list[int]]:
    """Places of equally many rows, the last ones repeats, so that one program serves all."""
    unit = batch_shards(model.mesh)
    size = -(-min(batch_size, count) // unit) * unit
    for first in range(0, count, size):
        yield [min(first + n, count - 1) for n in range(size)]


# Steps are kept, so that several questions about models of one policy compile one program.
@functools.lru_cache(maxsize=8)
def _vocabulary_step(
    policy: Policy, mesh: jax.sharding.Mesh, rules: ShardingRules
) -> Callable[..., Array]:
    policy = placed(policy, mesh, rules)

    def log_probs(params: Any, prompts: Array, lengths: Array, answers: Array) -> Array:
        hidden = plain_hidden(policy, params, prompts, lengths, answers[:, None])
        return jax.nn.log_softmax(policy.unembed(params, hidden[:, 0]), axis=-1)

    return jax.jit(log_probs, out_shardings=batch_sharding(mesh))


@functools.lru_cache(maxsize=8)
def _log_prob_step(
    policy: Policy, mesh: jax.sharding.Mesh, rules: ShardingRules
) -> Callable[..., Array]:
    return make_log_prob_step(policy, mesh=mesh, rules=rules)
