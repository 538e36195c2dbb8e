"""Answers of a model to prompts: batches of few shapes on any mesh, one text a prompt."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Key

from gdpo_jax.data import bucket_for, pad_right
from gdpo_jax.errors import UserError
from gdpo_jax.models import Model
from gdpo_jax.prompts import Prompt, encode_prompt, make_buckets
from gdpo_jax.rollouts import (
    Completion,
    Engine,
    SamplerConfig,
    decode_completions,
    jax_engine,
)
from gdpo_jax.training import (
    TrainState,
    batch_sharding,
    batch_shards,
    process_share,
    replicated,
    to_global,
    to_local,
)

__all__ = ["answer", "complete", "everywhere", "longest_prompt", "model_engine", "sampler_config"]


def sampler_config(
    model: Model, *, max_new_tokens: int = 256, temperature: float = 1.0, **options: Any
) -> SamplerConfig:
    """A sampler that stops where the model's files say an answer ends.

    options: further fields of `SamplerConfig`, such as `top_p`.
    """
    tokenizer = model.tokenizer
    return SamplerConfig(
        max_new_tokens=max_new_tokens,
        stop_ids=tokenizer.stop_ids or (tokenizer.eos_id,),
        pad_id=tokenizer.pad_id,
        temperature=temperature,
        **options,
    )


def model_engine(model: Model, sampler: SamplerConfig) -> Engine:
    """The model's own sampler on its mesh, for prompts that are padded already."""
    return jax_engine(
        model.policy,
        sampler,
        batch_sharding=batch_sharding(model.mesh),
        bucket=1,
        rules=model.rules,
    )


def answer(model: Model, prompts: Sequence[Prompt], **options: Any) -> list[str]:
    """The text of one completion for each prompt, in order; `options` and errors as `complete`."""
    return [completion.text for completion in complete(model, prompts, **options)]


def complete(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    state: TrainState | None = None,
    sampler: SamplerConfig | None = None,
    batch_size: int = 32,
    prompt_buckets: Sequence[int] | None = None,
    key: Key[Array, ""] | None = None,
) -> list[Completion]:
    """One completion for each prompt (text, chat messages or token ids), in order.

    state: answers with its parameters in place of the model's. sampler: the most likely token each
    time, at most 256, unless given. batch_size: prompts decoded together, rounded up to the mesh.
    prompt_buckets: legal widths, made from the prompts unless given. key: of sampled answers;
    consumed. On several processes each gives all prompts and gets all answers.

    Raises UserError for a prompt that cannot be encoded or leaves no positions for an answer, and
    for a model whose log-probs are not finite.
    """
    sampler = sampler or sampler_config(model, temperature=0.0)
    if sampler.temperature > 0 and key is None:
        raise UserError(f"temperature {sampler.temperature} draws answers: give key=jax.random.key")
    rows = [encode_prompt(model.tokenizer, prompt) for prompt in prompts]
    if not rows:
        return []
    most = longest_prompt(model, sampler)
    unit = batch_shards(model.mesh)
    size = -(-min(batch_size, len(rows)) // unit) * unit
    widths = tuple(prompt_buckets or make_buckets(list(map(len, rows)), batch_size=size, most=most))
    longest = max(map(len, rows))
    if longest > min(max(widths), most):
        raise UserError(
            f"the longest prompt has {longest} tokens, and {sampler.max_new_tokens} new ones fit "
            f"behind at most {min(max(widths), most)} of them; lower max_new_tokens"
        )
    engine = model_engine(model, sampler)
    params = model.params if state is None else state.params
    key = jax.random.key(0) if key is None else key
    if jax.process_count() == 1:
        # As the keys of a run, whose evaluation is then the same program.
        key = jax.device_put(key, replicated(model.mesh))
    found: list[Completion] = []
    for number, first in enumerate(range(0, len(rows), size)):
        part = rows[first : first + size]
        own = jax.random.fold_in(key, number)
        found += _complete_batch(model, engine, params, part, size, widths, own)
    return found


def _complete_batch(
    model: Model,
    engine: Engine,
    params: Any,
    rows: Sequence[Sequence[int]],
    size: int,
    widths: Sequence[int],
    key: Key[Array, ""],
) -> list[Completion]:
    """Completions of `rows`, decoded as a batch of `size`; the last one is filled up with repeats,
    so that one program serves all."""
    index, count = process_share(model.mesh)
    share = slice(index * size // count, (index + 1) * size // count)
    width = bucket_for(max(map(len, rows)), widths, what="prompt")
    filled = [*rows, *[rows[0]] * (size - len(rows))]
    padded, lengths = pad_right(filled, width, pad_id=model.tokenizer.pad_id, what="prompt")
    rollout = engine.generate(
        params, *to_global((padded[share], lengths[share]), model.mesh), key, num_samples=1
    )
    kept = (rollout.completions, rollout.mask, rollout.finished, rollout.log_probs)
    ids, mask, finished, log_probs = (array[: len(rows), 0] for array in everywhere(kept))
    if not np.isfinite(log_probs[mask]).all():
        raise UserError(
            f"the log-probs of {model.name or 'this model'} are not finite: its weights are "
            "damaged, or its numbers overflow in this dtype; open it with dtype='float32', or from "
            "another copy"
        )
    return decode_completions(model.tokenizer, ids, mask, finished)


def everywhere(tree: Any) -> Any:
    """Every process's rows on every process, as NumPy."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(to_local(tree), tiled=True)


def longest_prompt(model: Model, sampler: SamplerConfig) -> int:
    """The most tokens of a prompt that leave `sampler.max_new_tokens` positions."""
    positions = model.policy.config.max_positions
    if positions <= sampler.max_new_tokens:
        raise UserError(
            f"max_new_tokens={sampler.max_new_tokens} leaves no positions for a prompt: the model "
            f"has {positions}"
        )
    return positions - sampler.max_new_tokens
