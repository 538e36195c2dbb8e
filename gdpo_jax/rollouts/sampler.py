"""The jitted sampler: each prompt is computed once, then G completions decode side by side.

The prompt's keys and values stay one copy per prompt; only the new tokens' are kept per completion.
Layers are scanned for the prompt and unrolled in the decoding loop.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdpo_jax.errors import UserError
from gdpo_jax.policies import Params, Policy
from gdpo_jax.policies.attention import (
    KeyValues,
    causal_mask,
    decoding,
    empty_completion_cache,
    remembering,
    within,
)
from gdpo_jax.rollouts.choosing import choose_token
from gdpo_jax.rollouts.records import Rollout, SamplerConfig


def sample(
    policy: Policy,
    params: Params,
    prompts: Int[Array, "B P"],
    prompt_lengths: Int[Array, "B"],
    key: Key[Array, ""],
    *,
    num_samples: int,
    config: SamplerConfig,
) -> Rollout:
    """`num_samples` completions of each prompt; the key is consumed.

    Prompts are right-padded and hold at least one token. What row (b, g) draws depends on the key,
    b, g and its own prompt alone: not on other rows, padding rows or the number of devices. The
    loop ends when every row has met a stop token. Raises UserError for rows longer than the
    policy's positions.
    """
    batch, size = prompts.shape
    length = config.max_new_tokens
    if size + length > policy.config.max_positions:
        raise UserError(
            f"prompt length {size} and max_new_tokens {length} exceed the policy's "
            f"{policy.config.max_positions} positions"
        )
    stop_ids = jnp.array(config.stop_ids, jnp.int32)
    uniforms = row_uniforms(key, batch, num_samples, length)
    last, prompt_cache = prefill(policy, params, prompts, prompt_lengths)
    params = policy.unroll(params)
    depth = range(policy.config.num_layers)
    prompt_caches = [jax.tree.map(lambda x: x[i], prompt_cache) for i in depth]  # noqa: B023
    dtype = last.dtype

    def choose(hidden, step):
        logits = policy.unembed(params, hidden.reshape(batch * num_samples, -1))
        now = jax.lax.dynamic_index_in_dim(uniforms, step, axis=2, keepdims=False)
        tokens, log_probs = choose_token(
            logits, now.reshape(-1), temperature=config.temperature, top_p=config.top_p
        )
        return tokens.reshape(batch, num_samples), log_probs.reshape(batch, num_samples)

    def record(state, hidden):
        step, done = state["step"], state["done"]
        tokens, log_probs = choose(hidden, step)
        tokens = jnp.where(done, config.pad_id, tokens)
        column = (jnp.zeros_like(step), jnp.zeros_like(step), step)

        def write(buffer, value):
            return jax.lax.dynamic_update_slice(buffer, value[:, :, None], column)

        stopped = (tokens[:, :, None] == stop_ids[None, None, :]).any(axis=-1) & ~done
        return state | {
            "step": step + 1,
            "token": tokens,
            "tokens": write(state["tokens"], tokens),
            "mask": write(state["mask"], ~done),
            "log_probs": write(state["log_probs"], jnp.where(done, 0.0, log_probs)),
            "done": done | stopped,
        }

    def advance(state):
        position = prompt_lengths[:, None] + state["step"] - 1
        position = jnp.broadcast_to(position, (batch, num_samples))
        caches = tuple(zip(prompt_caches, state["cache"]))
        attend = decoding(
            prompt_lengths, state["step"] - 1, prompt_size=size, window=policy.config.window
        )
        hidden, caches = policy.forward(params, state["token"], position, attend, caches)
        return record(state | {"cache": tuple(own for _, own in caches)}, hidden)

    def unfinished(state):
        return (state["step"] < length) & ~state["done"].all()

    shape = (batch, num_samples, length)
    state = {
        "step": jnp.zeros((), jnp.int32),
        "token": jnp.zeros(shape[:2], jnp.int32),
        "tokens": jnp.full(shape, config.pad_id, jnp.int32),
        "mask": jnp.zeros(shape, bool),
        "log_probs": jnp.zeros(shape, jnp.float32),
        "done": jnp.zeros(shape[:2], bool),
        "cache": tuple(
            empty_completion_cache(shape, policy.config.num_kv_heads, policy.config.head_dim, dtype)
            for _ in depth
        ),
    }
    fanned = jnp.broadcast_to(last[:, None], (batch, num_samples, last.shape[-1]))
    state = jax.lax.while_loop(unfinished, advance, record(state, fanned))
    return Rollout(
        prompts=prompts,
        prompt_lengths=prompt_lengths,
        completions=state["tokens"],
        mask=state["mask"],
        log_probs=state["log_probs"],
        finished=state["done"],
    )


def prefill(
    policy: Policy,
    params: Params,
    prompts: Int[Array, "B P"],
    prompt_lengths: Int[Array, "B"],
) -> tuple[Float[Array, "B D"], KeyValues]:
    """The hidden state of each prompt's last token, and keys and values [L,B,J,P,K] of all."""
    size = prompts.shape[1]
    positions = jnp.broadcast_to(jnp.arange(size)[None, :], prompts.shape)
    near = within(positions, positions, policy.config.window)
    attend = remembering(causal_mask(prompt_lengths, size), near)
    hidden, cache = policy.forward(params, prompts, positions, attend)
    last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)[:, 0]
    return last, cache


def row_uniforms(
    key: Key[Array, ""], batch: int, num_samples: int, length: int
) -> Float[Array, "B G C"]:
    """Numbers in [0, 1) from one key per (prompt, sample): rows do not depend on each other."""

    def of_row(prompt, row):
        row_key = jax.random.fold_in(jax.random.fold_in(key, prompt), row)
        return jax.random.uniform(row_key, (length,))

    over_samples = jax.vmap(of_row, in_axes=(None, 0))
    over_prompts = jax.vmap(over_samples, in_axes=(0, None))
    return over_prompts(jnp.arange(batch), jnp.arange(num_samples))
