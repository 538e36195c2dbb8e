"""Log-probabilities and entropies of given completions, without a [tokens, vocabulary] array.

`B` prompts right-padded to `P`, `G` completions of each to `C` tokens. Completion token t stands at
position prompt_length + t and is predicted by the hidden state before it; token 0 by the last of
the prompt.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.errors import UserError
from gdpo_jax.policies.attention import causal, within
from gdpo_jax.policies.block_attention import LONG
from gdpo_jax.policies.group_attention import grouped, packed_attention
from gdpo_jax.policies.long_attention import long_grouped, long_packed
from gdpo_jax.policies.packing import PackedGroups
from gdpo_jax.policies.policy import Params, Policy
from gdpo_jax.policies.splash import served, splash_grouped
from gdpo_jax.policies.token_log_probs import token_log_probs


def completion_log_probs(
    policy: Policy,
    params: Params,
    prompts: Int[Array, "B P"],
    prompt_lengths: Int[Array, "B"],
    completions: Int[Array, "B G C"],
    completion_mask: Bool[Array, "B G C"],
    *,
    layout: str = "shared",
    chunk: int | None = 16,
    temperature: float = 1.0,
    with_entropy: bool = True,
    entropy_gradient: bool = True,
) -> tuple[Float[Array, "B G C"], Float[Array, "B G C"] | None]:
    """log p(token) of every completion token and the entropy of the distribution it came from.

    layout: "shared" computes each prompt once with its G completions behind it; "plain" computes G
      rows of prompt and completion. Values and gradients agree to float tolerance.
    chunk: completion positions whose logits exist at a time; None for all at once.
    temperature: logits are divided by it, as the sampler does.
    entropy_gradient: whether the entropy is for more than to look at; without, it costs less.

    Both outputs are float32 and zero outside of `completion_mask`; the entropy is None unless asked
    for. Raises UserError for a temperature or chunk that is not positive, an unknown layout, or
    rows longer than the decoder's positions.
    """
    check_options(chunk, temperature)
    longest = prompts.shape[1] + completions.shape[2]
    if longest > policy.config.max_positions:
        raise UserError(
            f"prompt length {prompts.shape[1]} and completion length {completions.shape[2]} exceed "
            f"the policy's {policy.config.max_positions} positions"
        )
    if layout == "shared":
        hidden = shared_hidden(policy, params, prompts, prompt_lengths, completions)
    elif layout == "plain":
        hidden = plain_hidden(policy, params, prompts, prompt_lengths, completions)
    else:
        raise UserError(f"layout {layout!r} is unknown; legal: shared, plain")
    log_probs, entropy = token_log_probs(
        policy,
        params,
        hidden,
        completions,
        chunk=chunk,
        temperature=temperature,
        with_entropy=with_entropy,
        entropy_gradient=entropy_gradient,
    )
    log_probs = jnp.where(completion_mask, log_probs, 0.0)
    return log_probs, jnp.where(completion_mask, entropy, 0.0) if with_entropy else None


def packed_log_probs(
    policy: Policy,
    params: Params,
    packed: PackedGroups,
    completion_mask: Bool[Array, "B G C"],
    *,
    chunk: int | None = 16,
    temperature: float = 1.0,
    with_entropy: bool = True,
    entropy_gradient: bool = True,
) -> tuple[Float[Array, "B G C"], Float[Array, "B G C"] | None]:
    """What `completion_log_probs` gives of the groups that were packed, with the same options.

    packed: R rows of A prompt tokens and N bins of W completion tokens (packing.py).
    chunk: positions of every bin whose logits exist at a time.

    Raises UserError for a temperature or chunk that is not positive.
    """
    check_options(chunk, temperature)
    cells = packed.prompts.shape[0]
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), packed.replace(places=None))

    def joined(prompt, behind):
        return jnp.concatenate([prompt, behind.reshape(behind.shape[0], -1)], axis=1)

    tokens = joined(rows.prompts, rows.completions)
    positions = joined(rows.prompt_positions, rows.completion_positions)
    of_rows = long_packed if rows.completions.shape[-1] > LONG else packed_attention
    attend = of_rows(rows, window=policy.config.window)
    hidden, _ = policy.hidden_states(params, tokens, positions, attend)
    predictors = rows.predictors.reshape(tokens.shape[0], -1, 1)
    before = jnp.take_along_axis(hidden, predictors, axis=1)
    values = token_log_probs(
        policy,
        params,
        before.reshape(*rows.completions.shape, -1),
        rows.completions,
        chunk=chunk,
        temperature=temperature,
        with_entropy=with_entropy,
        entropy_gradient=entropy_gradient,
    )

    def unpacked(of_rows):
        of_cells = of_rows.reshape(cells, -1)
        taken = jnp.take_along_axis(of_cells, packed.places.reshape(cells, -1), axis=1)
        return jnp.where(completion_mask, taken.reshape(completion_mask.shape), 0.0)

    log_probs, entropy = values
    return unpacked(log_probs), unpacked(entropy) if with_entropy else None


def check_options(chunk: int | None, temperature: float) -> None:
    """Raises UserError for a temperature or chunk that is not positive."""
    if temperature <= 0:
        raise UserError(f"log-probs need a temperature above 0, got {temperature}")
    if chunk is not None and chunk < 1:
        raise UserError(f"chunk must be at least 1, got {chunk}")


def plain_hidden(
    policy: Policy,
    params: Params,
    prompts: Int[Array, "B P"],
    prompt_lengths: Int[Array, "B"],
    completions: Int[Array, "B G C"],
) -> Float[Array, "B G C D"]:
    """The hidden state that predicts each completion token, from B*G rows of P + C tokens."""
    batch, samples, length = completions.shape
    size = prompts.shape[1]
    rows = jnp.repeat(prompts, samples, axis=0)
    lengths = jnp.repeat(prompt_lengths, samples)
    tokens = jnp.concatenate([rows, completions.reshape(-1, length)], axis=1)
    slots = jnp.arange(size + length)[None, :]
    after = lengths[:, None] + slots - size
    positions = jnp.where(slots < size, slots, after)
    window = policy.config.window
    if length > LONG:
        attend = _long_attend(policy, lengths, prompt_size=size, num_samples=1, length=length)
    else:
        shown = (slots < lengths[:, None]) | (slots >= size)
        mask = (slots[:, :, None] >= slots[:, None, :]) & shown[:, None, :]
        attend = causal(mask, within(positions, positions, window))
    hidden, _ = policy.hidden_states(params, tokens, positions, attend)
    hidden = hidden.reshape(batch, samples, size + length, -1)
    last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None, None], axis=2)
    return jnp.concatenate([last, hidden[:, :, size:-1]], axis=2)


def shared_hidden(
    policy: Policy,
    params: Params,
    prompts: Int[Array, "B P"],
    prompt_lengths: Int[Array, "B"],
    completions: Int[Array, "B G C"],
) -> Float[Array, "B G C D"]:
    """The hidden state that predicts each completion token, from B rows of P + G*C tokens."""
    batch, samples, length = completions.shape
    size = prompts.shape[1]
    tokens = jnp.concatenate([prompts, completions.reshape(batch, -1)], axis=1)
    after = prompt_lengths[:, None, None] + jnp.arange(length)[None, None, :]
    after = jnp.broadcast_to(after, completions.shape).reshape(batch, -1)
    before = jnp.broadcast_to(jnp.arange(size)[None, :], prompts.shape)
    positions = jnp.concatenate([before, after], axis=1)
    sizes = {"prompt_size": size, "num_samples": samples}
    if length > LONG:
        attend = _long_attend(policy, prompt_lengths, **sizes, length=length)
    else:
        attend = grouped(prompt_lengths, **sizes, window=policy.config.window)
    hidden, _ = policy.hidden_states(params, tokens, positions, attend)
    last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)
    last = jnp.broadcast_to(last[:, None], (batch, samples, 1, hidden.shape[-1]))
    own = hidden[:, size:].reshape(batch, samples, length, -1)
    return jnp.concatenate([last, own[:, :, :-1]], axis=2)


def _long_attend(policy, prompt_lengths, *, length, **sizes):
    """In blocks, or by the TPU's kernel: on a mesh of TPUs, where it serves."""
    window, placement = policy.config.window, policy.placement
    blocks = long_grouped(prompt_lengths, **sizes, length=length, window=window)
    if placement.platform != "tpu" or window is not None:
        return blocks
    kernel = splash_grouped(prompt_lengths, placement, **sizes)

    def attend(queries, *others):
        return (kernel if served(queries) else blocks)(queries, *others)

    return attend


__all__ = ["completion_log_probs", "packed_log_probs"]
