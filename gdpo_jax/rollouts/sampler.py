"""The jitted sampler: each prompt is computed once, then G completions decode side by side.

The prompt's keys and values stay one copy per prompt; only the new tokens' are kept per completion.
Layers are scanned for the prompt, and unrolled with fused projections in the decoding loop, which
goes on with fewer rows once enough of them are done.
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
from gdpo_jax.rollouts.checks import check_positions, check_sampler_ids
from gdpo_jax.rollouts.choosing import choose_token
from gdpo_jax.rollouts.compaction import (
    Results,
    Rows,
    Slots,
    compact,
    gather_results,
    narrower,
    slots_needed,
)
from gdpo_jax.rollouts.records import Rollout, SamplerConfig


def sample(
    policy: Policy,
    params: Params,
    prompts: Int[Array, "B P"],
    prompt_lengths: Int[Array, "B"],
    key: Key[Array, ""] | Key[Array, "B"],
    *,
    num_samples: int,
    config: SamplerConfig,
    pieces: int = 1,
    temperature: Float[Array, ""] | None = None,
    top_p: Float[Array, ""] | None = None,
) -> Rollout:
    """`num_samples` completions of each prompt; the key is consumed.

    Prompts are right-padded and hold at least one token. What row (b, g) draws depends on the key,
    b, g and its own prompt alone: not on other rows, padding rows or the number of devices. The
    loop ends when every row has met a stop token.

    key: one, or one for each prompt: `fold_in(key, b)` for prompt b draws what the one key does.
    pieces: into how many equal ones the leading axis is cut over devices; unfinished rows move
      together inside of each.
    temperature, top_p: in place of those of `config`, which may then be any other ones that are
      no 0 and no 1: numbers that only a call of the compiled program knows.

    Raises UserError if B does not divide by it, for rows longer than
      the policy's positions, and for stop or padding ids outside of its vocabulary.
    """
    batch, size = prompts.shape
    length = config.max_new_tokens
    check_sampler_ids(policy, config)
    check_positions(policy, [size], length)
    if num_samples < 1:
        raise UserError(f"num_samples must be at least 1, got {num_samples}")
    if batch % pieces:
        raise UserError(f"{batch} prompts do not divide into {pieces} pieces over devices")
    last, prompt_cache = prefill(policy, params, prompts, prompt_lengths)
    params = policy.decoding_params(params, size + length)
    depth, _, kv_heads, _, head_dim = prompt_cache.values.shape
    slots = Slots(
        prompt_lengths=prompt_lengths,
        prompt_caches=tuple(jax.tree.map(lambda x: x[i], prompt_cache) for i in range(depth)),  # noqa: B023
    )
    uniforms = row_uniforms(key, batch, num_samples, length)
    rows = empty_rows(uniforms, config.pad_id, pieces, cuts=config.cuts)
    caches = tuple(
        empty_completion_cache(
            (batch, num_samples, length),
            kv_heads,
            head_dim,
            last.dtype,
        )
        for _ in range(depth)
    )

    def record(rows, hidden, step):
        logits = policy.unembed(params, hidden.reshape(rows.token.size, -1))
        uniforms = jax.lax.dynamic_index_in_dim(rows.uniforms, step, axis=2, keepdims=False)
        drawn = choose_token(
            logits,
            uniforms.reshape(-1),
            temperature=config.temperature if temperature is None else temperature,
            top_k=config.top_k,
            top_p=config.top_p if top_p is None else top_p,
            min_p=config.min_p,
        )
        drawn = jax.tree.map(lambda x: x.reshape(rows.token.shape), drawn)
        return recorded(rows, *drawn, step, config)

    def advance(slots, rows, caches, step):
        position = jnp.broadcast_to(slots.prompt_lengths[:, None] + step - 1, rows.token.shape)
        attend = decoding(
            slots.prompt_lengths, step - 1, prompt_size=size, window=policy.config.window
        )
        pairs = tuple(zip(slots.prompt_caches, caches))
        hidden, pairs = policy.hidden_states(params, rows.token, position, attend, pairs)
        return record(rows, hidden, step), tuple(own for _, own in pairs)

    def decode_until(limit, width, slots, rows, caches, step):
        """Steps while more than `limit` slots of `width` rows a piece are needed."""

        def unfinished(state):
            rows, _, step = state
            needed = slots_needed(rows.results.finished, width, pieces)
            return (step < length) & (needed > limit)

        def body(state):
            rows, caches, step = state
            return *advance(slots, rows, caches, step), step + 1

        # XLA's products have no axes of one; left in the caches, they make the CPU's compiler copy
        # every cache four times a token, a fifth of the time of 30M parameters.
        narrow = jax.tree.map(
            lambda x: x.reshape(*(size for size in x.shape[:3] if size > 1), *x.shape[3:]), caches
        )
        rows, narrow, step = jax.lax.while_loop(unfinished, body, (rows, narrow, step))
        return rows, jax.tree.map(lambda x, like: x.reshape(like.shape), narrow, caches), step

    fanned = jnp.broadcast_to(last[:, None], (batch, num_samples, last.shape[-1]))
    step = jnp.zeros((), jnp.int32)
    rows, step = record(rows, fanned, step), step + 1
    results = None
    for shape in stages(batch // pieces, num_samples, config):
        rows, caches, step = decode_until(*shape, slots, rows, caches, step)
        results = rows.results if results is None else gather_results(results, rows, pieces)
        slots, rows, caches = compact(slots, rows, caches, shape=shape, pieces=pieces)
    rows, caches, step = decode_until(0, 1, slots, rows, caches, step)
    results = rows.results if results is None else gather_results(results, rows, pieces)
    return Rollout(
        prompts=prompts,
        prompt_lengths=prompt_lengths,
        completions=results.tokens,
        mask=results.mask,
        log_probs=results.log_probs,
        sampled_log_probs=results.sampled_log_probs,
        finished=results.finished,
    )


def stages(slots: int, width: int, config: SamplerConfig) -> list[tuple[int, int]]:
    """The smaller and smaller shapes, in slots and rows a slot, that decoding goes on with."""
    shapes = []
    for _ in range(config.halvings):
        slots, width = narrower(slots, width)
        if slots * width < config.fewest_rows:
            break
        shapes.append((slots, width))
    return shapes


def empty_rows(
    uniforms: Float[Array, "B G C"], pad_id: int, pieces: int, *, cuts: bool = False
) -> Rows:
    """All rows before their first token."""
    batch, samples, _ = uniforms.shape
    number = jnp.arange(batch // pieces * samples, dtype=jnp.int32)
    origin = jnp.broadcast_to(number[None], (pieces, number.size)).reshape(batch, samples)
    return Rows(
        origin=origin,
        token=jnp.full((batch, samples), pad_id, jnp.int32),
        uniforms=uniforms,
        results=Results(
            tokens=jnp.full(uniforms.shape, pad_id, jnp.int32),
            mask=jnp.zeros(uniforms.shape, bool),
            log_probs=jnp.zeros(uniforms.shape, jnp.float32),
            sampled_log_probs=jnp.zeros(uniforms.shape, jnp.float32) if cuts else None,
            finished=jnp.zeros((batch, samples), bool),
        ),
    )


def recorded(
    rows: Rows,
    tokens: Int[Array, "S W"],
    log_probs: Float[Array, "S W"],
    sampled_log_probs: Float[Array, "S W"] | None,
    step: Int[Array, ""],
    config: SamplerConfig,
) -> Rows:
    """The rows with one more token each, padding where a stop token came before."""
    done, results = rows.results.finished, rows.results
    stop_ids = jnp.array(config.stop_ids, jnp.int32)
    tokens = jnp.where(done, config.pad_id, tokens)
    column = (jnp.zeros_like(step), jnp.zeros_like(step), step)

    def write(buffer, value):
        return jax.lax.dynamic_update_slice(buffer, value[:, :, None], column)

    sampled = None
    if sampled_log_probs is not None:
        sampled = write(results.sampled_log_probs, jnp.where(done, 0.0, sampled_log_probs))
    stopped = (tokens[:, :, None] == stop_ids[None, None, :]).any(axis=-1) & ~done
    return rows.replace(
        token=tokens,
        results=Results(
            tokens=write(results.tokens, tokens),
            mask=write(results.mask, ~done),
            log_probs=write(results.log_probs, jnp.where(done, 0.0, log_probs)),
            sampled_log_probs=sampled,
            finished=done | stopped,
        ),
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
    hidden, cache = policy.hidden_states(params, prompts, positions, attend)
    last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)[:, 0]
    return last, cache


def row_uniforms(
    key: Key[Array, ""] | Key[Array, "B"], batch: int, num_samples: int, length: int
) -> Float[Array, "B G C"]:
    """Numbers in [0, 1) from one key per (prompt, sample): rows do not depend on each other."""
    if key.ndim == 0:
        key = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(batch))

    def of_row(prompt_key, row):
        return jax.random.uniform(jax.random.fold_in(prompt_key, row), (length,))

    over_samples = jax.vmap(of_row, in_axes=(None, 0))
    over_prompts = jax.vmap(over_samples, in_axes=(0, None))
    return over_prompts(key, jnp.arange(num_samples))
