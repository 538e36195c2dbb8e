"""Hidden states of prompts between two layers of a model, and one state a prompt of them."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdpo_jax.errors import UserError
from gdpo_jax.policies.attention import Attend, causal, causal_mask, within
from gdpo_jax.policies.decoder import check_layer
from gdpo_jax.policies.policy import Params, Policy

__all__ = ["POOLINGS", "layer_states", "pooled", "states_behind_layers"]

POOLINGS = ("last", "mean")


def layer_states(
    policy: Policy,
    params: Params,
    prompts: Int[Array, "B P"],
    prompt_lengths: Int[Array, "B"],
    layer: int,
) -> Float[Array, "B P D"]:
    """Hidden states behind layer `layer`, counted from 1, before any final norm; those of padding
    mean nothing. Layers behind it are not computed.

    prompts: padded on the right.

    Raises UserError for a layer that does not exist, and for a model that offers no layers
    (`Policy.split_layers`).
    """
    if policy.split_layers is None:
        raise UserError("this policy gives no states between its layers: Policy.split_layers")
    first, _ = policy.split_layers(params, layer)
    positions, attend = _prompt_attention(policy, prompts, prompt_lengths)
    return policy.hidden_states(first, prompts, positions, attend)[0]


def states_behind_layers(
    policy: Policy,
    params: Params,
    prompts: Int[Array, "B P"],
    prompt_lengths: Int[Array, "B"],
    layers: Sequence[int],
) -> tuple[Float[Array, "B P D"], ...]:
    """As `layer_states`, of several layers in one pass. Under `jax.jit`, layers behind the last of
    them are not computed.

    Raises UserError for a layer that does not exist, and for a model whose unrolled layers do not
    give what is between them to `Placement.layers`.
    """
    for layer in layers:
        check_layer(policy.config, layer)
    found = []

    def kept(x: Array) -> Array:
        found.append(policy.placement.layers(x))
        return found[-1]

    # Unrolled, so that what the placement is given is a value of this program, not of a scan.
    unrolled = policy.decoding_params(params, prompts.shape[1])
    recording = policy._replace(placement=policy.placement._replace(layers=kept))
    positions, attend = _prompt_attention(policy, prompts, prompt_lengths)
    recording.hidden_states(unrolled, prompts, positions, attend)
    if len(found) != policy.config.num_layers + 1:
        raise UserError(
            "this policy gives no states between its layers: its unrolled layers do not call "
            "Placement.layers"
        )
    return tuple(found[layer] for layer in layers)


def _prompt_attention(
    policy: Policy, prompts: Int[Array, "B P"], prompt_lengths: Int[Array, "B"]
) -> tuple[Int[Array, "B P"], Attend]:
    positions = jnp.broadcast_to(jnp.arange(prompts.shape[1])[None, :], prompts.shape)
    near = within(positions, positions, policy.config.window)
    return positions, causal(causal_mask(prompt_lengths, prompts.shape[1]), near)


def pooled(
    states: Float[Array, "B P D"], prompt_lengths: Int[Array, "B"], pooling: str
) -> Float[Array, "B D"]:
    """One float32 state a prompt: of its "last" token, or the "mean" over its tokens.

    Raises UserError for another pooling.
    """
    states = states.astype(jnp.float32)
    if pooling == "last":
        return jnp.take_along_axis(states, prompt_lengths[:, None, None] - 1, axis=1)[:, 0]
    if pooling == "mean":
        shown = jnp.arange(states.shape[1])[None, :] < prompt_lengths[:, None]
        total = jnp.sum(jnp.where(shown[..., None], states, 0.0), axis=1)
        return total / prompt_lengths[:, None].astype(jnp.float32)
    raise UserError(f"pooling {pooling!r} is unknown; legal: {', '.join(POOLINGS)}")
