"""Parameters for a decoding loop: layers apart, fewer and wider products, the compute dtype.

Made once before the loop: inside it, slices of stacked weights would be copies at each step.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.rotary import rotary_table

ATTENTION_INPUTS, MLP_INPUTS, TURNS = "query_key_value", "gate_up", "turns"
STEERING = "steering"
MATRICES = ("query", "key", "value", "out", "gate", "up", "down")
# The axis of heads, features or vocabulary of everything large here, and its logical name: what
# devices may share out.
SHARED_AXES = {
    ATTENTION_INPUTS: (1, "kv_heads"),
    MLP_INPUTS: (2, "mlp"),
    "out": (0, "heads"),
    "down": (0, "mlp"),
    "embedding": (0, "vocab"),
    "head": (1, "vocab"),
}
# Where the axis of the same matrix lies that devices of other rows may share out on top.
SPREAD_AXES = {ATTENTION_INPUTS: 3, MLP_INPUTS: 2, "out": 2, "down": 0, "embedding": 0, "head": 1}


def unroll_layers(params: Any, config: DecoderConfig, num_positions: int) -> Any:
    """The parameters of a decoder with `layers` as a tuple, each as `fuse_projections` makes it.

    num_positions: how many positions the loop can reach; their turns come with the parameters.
    """
    depth = config.num_layers
    layers = [jax.tree.map(lambda p: p[i], params["layers"]) for i in range(depth)]  # noqa: B023
    tables = {
        name: params[name].astype(config.dtype) for name in ("embedding", "head") if name in params
    }
    return {
        **params,
        **tables,
        "layers": tuple(fuse_projections(x, config) for x in layers),
        TURNS: rotary_table(config, num_positions),
    }


def fuse_projections(params: Any, config: DecoderConfig) -> Any:
    """One layer with the matrices that read the same input side by side.

    Queries, keys and values become [D, J, R + 2, K], the R queries of a key before it and its
    value, and gate and up become [D, 2, F]: both can still be cut over `kv_heads` and `mlp`, where
    their parts were. Biases, adapters and steering vectors stay apart.
    """
    d, kv, size = config.d_model, config.num_kv_heads, config.head_dim
    cast = {name: params[name].astype(config.dtype) for name in MATRICES}
    queries = cast.pop("query").reshape(d, kv, -1, size)
    heads = [queries, cast.pop("key")[:, :, None], cast.pop("value")[:, :, None]]
    gates = [cast.pop("gate"), cast.pop("up")]
    others = {name: leaf for name, leaf in params.items() if name not in MATRICES}
    return {
        **others,
        **cast,
        ATTENTION_INPUTS: jnp.concatenate(heads, axis=2),
        MLP_INPUTS: jnp.stack(gates, axis=1),
    }
