"""How likely given answers to prompts are under a policy."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from gdpo_jax.data import pad_right
from gdpo_jax.models import Model
from gdpo_jax.training import batch_shards, make_log_prob_step, to_global, to_local

__all__ = ["answer_log_probs"]


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
    step = make_log_prob_step(model.policy, mesh=model.mesh, rules=model.rules)
    unit = batch_shards(model.mesh)
    size = -(-min(batch_size, len(prompts)) // unit) * unit
    pad_id, found = model.tokenizer.pad_id, []
    for first in range(0, len(prompts), size):
        # Filled up with repeats, so that one program serves all batches.
        places = [min(first + n, len(prompts) - 1) for n in range(size)]
        padded = pad_right([prompts[n] for n in places], wide, pad_id=pad_id, what="prompt")
        flat = [answer for n in places for answer in answers[n]]
        ids, lengths = pad_right(flat, long, pad_id=pad_id, what="answer")
        mask = (np.arange(long) < lengths[:, None]).reshape(size, several, long)
        batch = to_global((*padded, ids.reshape(size, several, long), mask), model.mesh)
        of_tokens = to_local(step(model.params, *batch))
        found.append(np.where(mask, of_tokens, 0.0).sum(axis=-1))
    return np.concatenate(found)[: len(prompts)]
