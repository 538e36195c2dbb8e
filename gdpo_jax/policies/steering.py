"""Activation steering: a vector is added to every state behind a layer (arXiv 2308.10248).

Vectors are parameters beside those of the decoder, so that they are arguments of every program:
scoring, the prompt of the sampler and its decoding loop add the same ones. A sign of 0 adds
nothing, and its opposite steers the other way without another program.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.policy import Params, Policy
from gdpo_jax.policies.unrolling import STEERING

__all__ = ["steered_policy", "with_sign", "with_steering"]

BASE = "base"
VECTORS, SIGN = "vectors", "sign"


def steered_policy(policy: Policy) -> Policy:
    """A policy over {"base": parameters, "steering": {"vectors": [L, D], "sign": []}}: behind layer
    l, sign times vector l is added at every position.

    Further branches of the parameters are left alone. The policy also takes plain parameters.
    Raises UserError for another model than the decoder, and one with adapters or a trained part.
    """
    if not isinstance(policy.config, DecoderConfig):
        raise UserError("steering is for the decoder of this library; this is another model")
    if policy.trained is not None:
        raise UserError("merge the adapters first: model.merged()")
    config = policy.config

    def joined(params: Params) -> Params:
        if STEERING not in params:
            return params
        base, steering = params[BASE], params[STEERING]
        added = steering[VECTORS] * steering[SIGN]
        return {**base, "layers": {**base["layers"], STEERING: added}}

    def init(key: Array) -> Params:
        vectors = jnp.zeros((config.num_layers, config.d_model), jnp.float32)
        return with_steering(policy.init(key), vectors)

    def logical_axes() -> Any:
        axes = {VECTORS: ("layers", None), SIGN: ()}
        return {BASE: policy.logical_axes(), STEERING: axes}

    return policy._replace(
        init=init,
        logical_axes=logical_axes,
        forward=lambda params, *given, **options: policy.forward(joined(params), *given, **options),
        output=lambda params: policy.output(params.get(BASE, params)),
        unroll=lambda params, num_positions: policy.unroll(joined(params), num_positions),
        decode_stored=policy.decode_stored
        and (lambda params, num_positions: policy.decode_stored(joined(params), num_positions)),
        split_layers=lambda params, count: policy.split_layers(joined(params), count),
    )


def with_steering(params: Params, vectors: Float[Array, "L D"]) -> Params:
    """The parameters of `steered_policy` with these vectors, and a sign of 0."""
    return {BASE: params, STEERING: {VECTORS: vectors, SIGN: jnp.zeros((), jnp.float32)}}


def with_sign(params: Params, sign: float) -> Params:
    """The same parameters of `steered_policy` with another sign, 1 or -1 or any factor."""
    own = params[STEERING][SIGN]
    return {**params, STEERING: {**params[STEERING], SIGN: jnp.full_like(own, sign)}}
