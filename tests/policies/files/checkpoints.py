"""The tiny checkpoints of `reference/`, which transformers made, and our logits of one."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp

from gdpo_jax.policies import decoder_policy

REFERENCE = Path(__file__).parent / "reference"
NAMES = ("smollm2", "llama3", "qwen25", "qwen3", "gemma3")


@functools.partial(jax.jit, static_argnames="config")
def logits_of(config, params, tokens):
    rows, size = tokens.shape
    policy = decoder_policy(config)
    see = jnp.broadcast_to(jnp.tril(jnp.ones((size, size), bool)), (rows, size, size))
    positions = jnp.broadcast_to(jnp.arange(size)[None], (rows, size))
    return policy.unembed(params, policy.apply(params, tokens, positions, see)[0])
