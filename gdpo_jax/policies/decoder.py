"""One decoder-only transformer as a policy: pure functions over a plain tree of float32 arrays.

A linen module describes one layer; the layers' parameters are stacked on a leading axis and scanned
to train, or given as a tuple and unrolled to decode (`unstack_layers`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from gdpo_jax.errors import UserError
from gdpo_jax.policies.attention import Attend, KeyValues, cached, masked, within
from gdpo_jax.policies.config import DecoderConfig, RopeScaling

Params = PyTree[Float[Array, "..."]]


class Cache(NamedTuple):
    """Key and value slots of every layer [L,N,J,S,K], their positions, and how many are filled."""

    layers: KeyValues
    positions: Int[Array, "N S"]
    filled: Int[Array, ""]


class Policy(NamedTuple):
    """What the core takes of a language model: functions, never a model class.

    init(key) -> params.
    logical_axes() -> the tree of params with a tuple of axis names for each leaf.
    apply(params, tokens [N,T], positions [N,T], mask [N,T,S], cache=None)
      -> (hidden [N,T,D], cache).
    forward(params, tokens, positions, attend, caches) -> (hidden, caches): any attention layout;
      `caches` is a tree stacked over layers (a tuple of trees where layers are a tuple), or None.
    unembed(params, hidden [..., D]) -> float32 logits [..., V].
    init_cache(batch, length) -> an empty cache of `length` slots.

    unroll(params) -> the same parameters for a decoding loop, layers as a tuple.
    reference(params) -> those of the policy before training, where `params` hold them, or None.
    trained: the branch of `params` that training changes; None for all of them.

    apply and init_cache raise UserError for rows longer than the decoder's positions.
    """

    config: DecoderConfig
    init: Callable[[Array], Params]
    logical_axes: Callable[[], PyTree]
    apply: Callable[..., tuple[Array, Cache | None]]
    forward: Callable[..., tuple[Array, PyTree]]
    unembed: Callable[[Params, Array], Array]
    init_cache: Callable[[int, int], Cache]
    unroll: Callable[[Params], Params]
    reference: Callable[[Params], Params] | None = None
    trained: str | None = None


def trained_part(policy: Policy, params: Params) -> Params:
    """What gradients and the optimizer see of `params`."""
    return params if policy.trained is None else params[policy.trained]


def with_trained_part(policy: Policy, params: Params, part: Params) -> Params:
    """`params` with the trained part replaced."""
    return part if policy.trained is None else {**params, policy.trained: part}


def rotary_frequencies(
    config: DecoderConfig, local: bool | Bool[Array, ""] | None = None
) -> Float[Array, "F"]:
    """Radians a position of each of the K/2 rotary pairs: theta^(-2i/K), then any scaling.

    local: whether the layer sees its window only, on angles of its own.
    """
    half = config.head_dim // 2
    exponent = -jnp.arange(half, dtype=jnp.float32) / half
    stretched = stretch(config.rope_theta**exponent, config.rope_scaling)
    return (
        stretched
        if local is None
        else jnp.where(local, config.local_rope_theta**exponent, stretched)
    )


def stretch(frequency: Float[Array, "F"], scaling: RopeScaling | None) -> Float[Array, "F"]:
    """Rotary frequencies under `scaling`."""
    if scaling is None:
        return frequency
    if scaling.kind == "linear":
        return frequency / scaling.factor
    turns = scaling.original_positions * frequency / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = jnp.clip((turns - low) / (high - low), min=0.0, max=1.0)
    return frequency * (kept + (1 - kept) / scaling.factor)


def rotate(
    x: Float[Array, "N T H K"], positions: Int[Array, "N T"], frequency: Float[Array, "F"]
) -> Float[Array, "N T H K"]:
    """Rotary positions by half rotation: pair (i, i + K/2) turns by position * frequency_i."""
    angle = (positions.astype(jnp.float32)[..., None] * frequency[None, None])[:, :, None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def scaled(names: tuple[str, ...], *, fan_in: int) -> Callable:
    """Normal initial values of variance 1 / fan_in, with the logical names of the axes."""

    def init(key, shape, dtype):
        # Two axes: random bits of three compile three times as long on CPU, to the same numbers.
        matrix = jax.random.normal(key, (shape[0], math.prod(shape[1:])), dtype)
        return fan_in**-0.5 * matrix.reshape(shape)

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
        positions: Int[Array, "N T"],
        attend: Attend,
        cache: PyTree,
        local: bool | Bool[Array, ""] | None = None,
    ) -> tuple[Float[Array, "N T D"], PyTree]:
        c = self.config
        d, heads, kv, size = c.d_model, c.num_heads, c.num_kv_heads, c.head_dim

        def kernel(name, shape, names, fan_in):
            value = self.param(name, scaled(names, fan_in=fan_in), shape, jnp.float32)
            return value.astype(x.dtype)

        # What layers add starts smaller the more of them there are, so that tokens stay audible.
        branches = 2 * c.num_layers
        wq = kernel("query", (d, heads, size), ("embed", "heads", "head_dim"), d)
        wk = kernel("key", (d, kv, size), ("embed", "kv_heads", "head_dim"), d)
        wv = kernel("value", (d, kv, size), ("embed", "kv_heads", "head_dim"), d)
        inner = heads * size * branches
        wo = kernel("out", (heads, size, d), ("heads", "head_dim", "embed"), inner)
        wg = kernel("gate", (d, c.d_ff), ("embed", "mlp"), d)
        wu = kernel("up", (d, c.d_ff), ("embed", "mlp"), d)
        wd = kernel("down", (c.d_ff, d), ("mlp", "embed"), c.d_ff * branches)

        def product(x, w, name):
            y = x @ w
            # Adapters of low rank that lie beside the matrix (lora.py).
            if self.has_variable("params", f"{name}_lora"):
                pair = self.get_variable("params", f"{name}_lora")
                y = y + (x @ pair["a"].astype(x.dtype)) @ pair["b"].astype(x.dtype)
            return y

        def project(x, w, heads, name, axis):
            y = product(x, w.reshape(d, heads * size), name).reshape(*shape, heads, size)
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
            return rotate(x, positions, rotary_frequencies(c, local))

        def added(x, name):
            return norm(name)(x) if c.post_norms else x

        # All tokens on one axis: products then contract one axis in the backward pass too, where
        # XLA's CPU backend otherwise recomputes the gate inside a transposed product (2.6 times
        # slower).
        shape = x.shape[:2]
        x = x.reshape(-1, d)
        normal = norm("attention_norm")(x)
        queries = place(project(normal, wq, heads, "query", "heads"), "query")
        keys = place(project(normal, wk, kv, "key", "kv_heads"), "key")
        values = project(normal, wv, kv, "value", "kv_heads")
        if c.query_scalar is not None:
            # Layouts divide scores by the root of the head size.
            queries = queries * (c.head_dim / c.query_scalar) ** 0.5
        mixed, cache = attend(queries, keys, values, cache, local)
        mixed = product(mixed.reshape(-1, heads * size), wo.reshape(heads * size, d), "out")
        x = x + added(mixed, "attention_post_norm")

        normal = norm("mlp_norm")(x)
        gate = ACTIVATIONS[c.activation](product(normal, wg, "gate"))
        mixed = product(gate * product(normal, wu, "up"), wd, "down")
        x = x + added(mixed, "mlp_post_norm")
        return x.reshape(*shape, d), cache


def checkpointed(body: Callable, remat: str) -> Callable:
    """The scanned body under the config's rematerialisation."""
    if remat == "none":
        return body
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return jax.checkpoint(body, policy=policy, prevent_cse=False)


def unstack_layers(params: Params) -> Params:
    """The same parameters with `layers` as a tuple of single layers, which `forward` unrolls.

    Do it once, before a decoding loop: inside it, slices of stacked weights are copies each step.
    """
    depth = jax.tree.leaves(params["layers"])[0].shape[0]
    layers = tuple(jax.tree.map(lambda p: p[i], params["layers"]) for i in range(depth))  # noqa: B023
    return {**params, "layers": layers}


def decoder_policy(config: DecoderConfig) -> Policy:
    """The policy of a decoder with parameters embedding, layers, final_norm and, untied, head."""
    layer = Layer(config)
    norm = RMSNorm(config.norm_eps, offset=config.norm_offset)
    dtype = jnp.dtype(config.dtype)

    def init_boxed(key, *, stack):
        embed_key, layers_key, head_key = jax.random.split(key, 3)
        # Unit variance of the tied logits at the start.
        tables = nn.initializers.normal(config.d_model**-0.5)
        row = jnp.zeros((1, 1, config.d_model), dtype)

        def init_layer(layer_key):
            position = jnp.zeros((1, 1), jnp.int32)
            see = masked(jnp.ones((1, 1, 1), bool))
            return layer.init(layer_key, row, position, see, None)["params"]

        shape = (config.vocab_size, config.d_model)
        boxed = {
            "embedding": nn.with_logical_partitioning(tables, ("vocab", "embed"))(embed_key, shape),
            "layers": stack(init_layer, jax.random.split(layers_key, config.num_layers)),
            "final_norm": norm.init(embed_key, row)["params"],
        }
        if not config.tie_embeddings:
            head = nn.with_logical_partitioning(tables, ("embed", "vocab"))
            boxed["head"] = head(head_key, shape[::-1])
        return boxed

    def init(key):
        def stack(init_layer, keys):
            return jax.lax.map(lambda k: nn.unbox(init_layer(k)), keys)

        return nn.unbox(init_boxed(key, stack=stack))

    def logical_axes():
        boxed = jax.eval_shape(
            functools.partial(init_boxed, stack=lambda init_layer, keys: init_layer(keys[0])),
            jax.random.key(0),
        )
        axes = jax.tree.map(
            lambda box: tuple(box.names), boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned)
        )
        layers = jax.tree.map(
            lambda names: ("layers", *names), axes["layers"], is_leaf=lambda x: isinstance(x, tuple)
        )
        return {**axes, "layers": layers}

    def run_layer(layer_params, x, positions, attend, cache, local):
        with jax.named_scope("layer"):
            return layer.apply({"params": layer_params}, x, positions, attend, cache, local)

    def forward(params, tokens, positions, attend, caches=None):
        x = jnp.take(params["embedding"], tokens, axis=0, mode="clip").astype(dtype)
        if config.scale_embeddings:
            x = x * jnp.asarray(config.d_model**0.5, dtype)
        local = config.local_layers
        if isinstance(params["layers"], tuple):
            renewed = []
            for i, layer_params in enumerate(params["layers"]):
                cache = None if caches is None else caches[i]
                own = None if local is None else local[i]
                x, cache = run_layer(layer_params, x, positions, attend, cache, own)
                renewed.append(cache)
            caches = tuple(renewed)
        else:

            def body(x, of_layer):
                layer_params, cache, own = of_layer
                return run_layer(layer_params, x, positions, attend, cache, own)

            xs = (params["layers"], caches, None if local is None else jnp.array(local))
            x, caches = jax.lax.scan(checkpointed(body, config.remat), x, xs)
        return norm.apply({"params": params["final_norm"]}, x), caches

    def apply(
        params: Params,
        tokens: Int[Array, "N T"],
        positions: Int[Array, "N T"],
        mask: Bool[Array, "N T S"],
        cache: Cache | None = None,
    ) -> tuple[Float[Array, "N T D"], Cache | None]:
        check_length(tokens.shape[1])
        if cache is None:
            attend = masked(mask, within(positions, positions, config.window))
            return forward(params, tokens, positions, attend)[0], None
        at = (jnp.zeros_like(cache.filled), cache.filled)
        slots = jax.lax.dynamic_update_slice(cache.positions, positions.astype(jnp.int32), at)
        attend = cached(mask, cache.filled, within(positions, slots, config.window))
        hidden, layers = forward(params, tokens, positions, attend, cache.layers)
        return hidden, Cache(layers, slots, cache.filled + tokens.shape[1])

    def unembed(params: Params, hidden: Float[Array, "*N D"]) -> Float[Array, "*N V"]:
        tied = config.tie_embeddings
        table = params["embedding"].T if tied else params["head"]
        return jnp.matmul(hidden, table.astype(hidden.dtype), preferred_element_type=jnp.float32)

    def check_length(size: int) -> None:
        if size > config.max_positions:
            raise UserError(
                f"rows of {size} tokens exceed the policy's {config.max_positions} positions"
            )

    def init_cache(batch: int, length: int) -> Cache:
        check_length(length)
        shape = (config.num_layers, batch, config.num_kv_heads, length, config.head_dim)
        empty = KeyValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
        positions = jnp.zeros((batch, length), jnp.int32)
        return Cache(empty, positions, jnp.zeros((), jnp.int32))

    return Policy(
        config, init, logical_axes, apply, forward, unembed, init_cache, unroll=unstack_layers
    )


def num_params(params: Any) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(p.size for p in jax.tree.leaves(params))
