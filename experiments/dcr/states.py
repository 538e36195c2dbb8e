"""The pooled states of many prompts behind the layers of a model, in batches of one shape."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gdpo_jax.answers import everywhere
from gdpo_jax.data import pad_right
from gdpo_jax.errors import UserError
from gdpo_jax.policies import Policy, layer_states, pooled, states_behind_layers
from gdpo_jax.prompts import Prompt, encode_prompt, make_buckets
from gdpo_jax.recipe import Model
from gdpo_jax.training import batch_shards, process_share, to_global
from gdpo_jax.training.mesh import placed

__all__ = ["prompt_states", "states_of_layers"]


def prompt_states(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    layer: int,
    pooling: str = "last",
    batch_size: int = 32,
) -> Float[np.ndarray, "N D"]:
    """The pooled state of each prompt (text, chat messages or token ids) behind a layer, float32.

    batch_size: prompts at a time, rounded up to the mesh. Raises UserError for a layer that does
    not exist, and for prompts that cannot be encoded or exceed the model's positions.
    """
    program = _states_program(model.policy, model.mesh, model.rules, layer, pooling)
    return _in_batches(model, prompts, program, batch_size)


def states_of_layers(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    layers: Sequence[int],
    pooling: str = "last",
    batch_size: int = 32,
) -> Float[np.ndarray, "N C D"]:
    """As `prompt_states`, behind each of several layers, in one pass through the model."""
    program = _layers_program(model.policy, model.mesh, model.rules, tuple(layers), pooling)
    return _in_batches(model, prompts, program, batch_size)


def _in_batches(
    model: Model, prompts: Sequence[Prompt], program: Callable, batch_size: int
) -> np.ndarray:
    rows = [encode_prompt(model.tokenizer, prompt) for prompt in prompts]
    most = model.policy.config.max_positions
    if not rows or max(map(len, rows)) > most:
        raise UserError(f"give prompts of at most {most} tokens, the model's positions")
    unit = batch_shards(model.mesh)
    size = -(-min(batch_size, len(rows)) // unit) * unit
    [*_, width] = make_buckets(list(map(len, rows)), batch_size=size, most=most)
    index, count = process_share(model.mesh)
    share = slice(index * size // count, (index + 1) * size // count)
    found = []
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        filled = [*part, *[rows[0]] * (size - len(part))]
        padded = pad_right(filled[share], width, pad_id=model.tokenizer.pad_id, what="prompt")
        states = program(model.params, *to_global(padded, model.mesh))
        found.append(everywhere(states)[: len(part)])
    return np.concatenate(found)


@functools.lru_cache(maxsize=8)
def _states_program(policy: Policy, mesh: Any, rules: Any, layer: int, pooling: str) -> Any:
    policy = placed(policy, mesh, rules)

    def states(params: Any, prompts: Any, lengths: Any) -> Any:
        return pooled(layer_states(policy, params, prompts, lengths, layer), lengths, pooling)

    return jax.jit(states)


@functools.lru_cache(maxsize=8)
def _layers_program(
    policy: Policy, mesh: Any, rules: Any, layers: tuple[int, ...], pooling: str
) -> Any:
    policy = placed(policy, mesh, rules)

    def states(params: Any, prompts: Any, lengths: Any) -> Any:
        found = states_behind_layers(policy, params, prompts, lengths, layers)
        return jnp.stack([pooled(each, lengths, pooling) for each in found], axis=1)

    return jax.jit(states)
