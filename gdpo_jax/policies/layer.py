"""One layer of the decoder, with its norms, as linen modules."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from gdpo_jax.policies.attention import Attend
from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.policy import UNPLACED, Placement
from gdpo_jax.policies.rotary import Rotary, rotate
from gdpo_jax.policies.unrolling import ATTENTION_INPUTS, MLP_INPUTS, STEERING


def scaled(names: tuple[str, ...], *, fan_in: int) -> Callable:
    """Normal initial values of variance 1 / fan_in, with the logical names of the axes."""

    def init(key, shape, dtype):
        # Two axes: random bits of three compile three times as long on CPU, to the same numbers.
        matrix = jax.random.normal(key, (shape[0], math.prod(shape[1:])), jnp.float32)
        return (fan_in**-0.5 * matrix.reshape(shape)).astype(dtype)

    return nn.with_logical_partitioning(init, names)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * scale, computed in float32 (arXiv 1910.07467, equation 4).

    With `offset` the parameter is what the scale has above one (Gemma).
    """

    eps: float
    axis: str = "embed"
    offset: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
        start = nn.initializers.zeros if self.offset else nn.initializers.ones
        start = nn.with_logical_partitioning(start, (self.axis,))
        scale = self.param("scale", start, (x.shape[-1],), jnp.float32)
        scale = 1 + scale if self.offset else scale
        wide = x.astype(jnp.float32)
        mean_square = jnp.mean(wide * wide, axis=-1, keepdims=True)
        normal = wide * jax.lax.rsqrt(mean_square + self.eps)
        return (normal * scale.reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


ACTIVATIONS = {"silu": nn.silu, "gelu_tanh": functools.partial(nn.gelu, approximate=True)}


class Layer(nn.Module):
    """Attention and a gated feed-forward (arXiv 2002.05202, equation 6), each after a norm."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "N T D"],
        rotary: Rotary,
        attend: Attend,
        cache: PyTree,
        local: bool | Bool[Array, ""] | None = None,
        placement: Placement = UNPLACED,
    ) -> tuple[Float[Array, "N T D"], PyTree]:
        c = self.config
        d, heads, kv, size = c.d_model, c.num_heads, c.num_kv_heads, c.head_dim
        all_rows, own_rows = placement.all_rows, placement.own_rows

        def kernel(name, shape, names, fan_in):
            value = self.param(name, scaled(names, fan_in=fan_in), shape, c.table_dtype)
            return value.astype(x.dtype)

        # What layers add starts smaller the more of them there are, so that it does not outweigh
        # the embeddings.
        branches = 2 * c.num_layers
        fused = self.has_variable("params", ATTENTION_INPUTS)
        if not fused:
            wq = kernel("query", (d, heads, size), ("embed", "heads", "head_dim"), d)
            wk = kernel("key", (d, kv, size), ("embed", "kv_heads", "head_dim"), d)
            wv = kernel("value", (d, kv, size), ("embed", "kv_heads", "head_dim"), d)
        inner = heads * size * branches
        wo = kernel("out", (heads, size, d), ("heads", "head_dim", "embed"), inner)
        if not fused:
            wg = kernel("gate", (d, c.d_ff), ("embed", "mlp"), d)
            wu = kernel("up", (d, c.d_ff), ("embed", "mlp"), d)
        wd = kernel("down", (c.d_ff, d), ("mlp", "embed"), c.d_ff * branches)

        def adapted(y, x, name):
            # Adapters of low rank that lie beside the matrix (lora.py).
            if self.has_variable("params", f"{name}_lora"):
                pair = self.get_variable("params", f"{name}_lora")
                y = y + (x @ pair["a"].astype(x.dtype)) @ pair["b"].astype(x.dtype)
            return y

        def shared_product(x, w):
            return own_rows(placement.columns(jnp.tensordot(all_rows(x), w, 1)))

        def attention_inputs(x):
            if not fused:
                return [x @ w.reshape(d, -1) for w in (wq, wk, wv)]
            y = shared_product(x, self.get_variable("params", ATTENTION_INPUTS))
            shared = heads // kv
            return [y[:, :, :shared], y[:, :, shared], y[:, :, shared + 1]]

        def mlp_inputs(x):
            if not fused:
                return x @ wg, x @ wu
            y = jnp.tensordot(x, self.get_variable("params", MLP_INPUTS), 1)
            return y[:, 0], y[:, 1]

        def project(x, y, heads, name, axis):
            y = adapted(y.reshape(len(x), -1), x, name).reshape(*shape, heads, size)
            if c.attention_bias:
                zeros = nn.with_logical_partitioning(nn.initializers.zeros, (axis, "head_dim"))
                bias = self.param(f"{name}_bias", zeros, (heads, size), jnp.float32)
                y = y + bias.astype(y.dtype)[None, None]
            return y

        def norm(name, axis="embed"):
            return RMSNorm(c.norm_eps, axis, c.norm_offset, name=name)

        def place(x, name):
            if c.qk_norm:
                x = norm(f"{name}_norm", "head_dim")(x)
            return rotate(x, rotary.of_layer(local))

        def added(x, name):
            return norm(name)(x) if c.post_norms else x

        # All tokens on one axis: products then contract one axis in the backward pass too, where
        # XLA's CPU backend otherwise recomputes the gate inside a transposed product (2.6 times
        # slower).
        shape = x.shape[:2]
        x = x.reshape(-1, d)
        normal = norm("attention_norm")(x)
        queries, keys, values = attention_inputs(normal)
        queries = place(project(normal, queries, heads, "query", "heads"), "query")
        keys = place(project(normal, keys, kv, "key", "kv_heads"), "key")
        values = project(normal, values, kv, "value", "kv_heads")
        if c.query_scalar is not None:
            # Layouts divide scores by the root of the head size.
            queries = queries * (c.head_dim / c.query_scalar) ** 0.5
        mixed, cache = attend(queries, keys, values, cache, local)
        mixed = mixed.reshape(-1, heads * size)
        mixed = adapted(shared_product(mixed, wo.reshape(heads * size, d)), mixed, "out")
        x = x + added(mixed, "attention_post_norm")

        normal = all_rows(norm("mlp_norm")(x))
        gate, up = mlp_inputs(normal)
        gate = ACTIVATIONS[c.activation](adapted(gate, normal, "gate"))
        mixed = gate * adapted(up, normal, "up")
        mixed = own_rows(adapted(mixed @ wd, mixed, "down"))
        x = x + added(mixed, "mlp_post_norm")
        if self.has_variable("params", STEERING):
            # A vector that is added to every state behind the layer (steering.py).
            x = x + self.get_variable("params", STEERING).astype(x.dtype)[None]
        return x.reshape(*shape, d), cache
