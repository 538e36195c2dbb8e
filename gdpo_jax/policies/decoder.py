"""One decoder-only transformer as a policy: pure functions over a plain tree of float32 arrays.

Layers (layer.py) have their parameters stacked on a leading axis and scanned to train, or given as
a tuple and unrolled to decode (unrolling.py).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from gdpo_jax.errors import UserError
from gdpo_jax.policies.attention import KeyValues, cached, masked, within
from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.layer import Layer, RMSNorm
from gdpo_jax.policies.rotary import looked_up, rotary_turns
from gdpo_jax.policies.softmax_attention import MIXED
from gdpo_jax.policies.unrolling import TURNS, unroll_layers
from gdpo_jax.policies.vocabulary import pick_by_gather, vocabulary_logits

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
    forward(params, tokens, positions, attend, caches=None, pin=None, pin_lookup=None)
      -> (hidden, caches): any attention layout; `caches` is a tree stacked over layers (a tuple of
      trees where layers are a tuple), or None; `pin` and `pin_lookup` map what flows between layers
      and what comes out of the embedding table to itself, placed (placement.py).
    output(params) -> the parameters that make logits of hidden states: embedding [V, D] or head.
    output_table(output) -> the same as the product reads them [D, V]; apart, so that a loop over
      hidden states can make the copy once, where gradients want one, or not at all.
    logits_of(hidden [..., D], table) -> float32 logits [..., V].
    pick(values [..., V], tokens [...]) -> the values at the tokens [...].
    map_rows(f) -> f, a function of (hidden, output, tokens) whose outputs are a tuple with the same
      rows, done by the groups of rows that devices hold (placement.py).
    init_cache(batch, length) -> an empty cache of `length` slots.

    unroll(params, num_positions) -> the same parameters for a decoding loop that reaches so many
      positions: layers as a tuple, projections fused.
    reference(params) -> those of the policy before training, where `params` hold them, or None.
    trained: the branch of `params` that training changes; None for all of them.
    trained_config: what that branch is (a LoraConfig), which a continuation of a run must share.

    apply and init_cache raise UserError for rows longer than the decoder's positions.
    """

    config: DecoderConfig
    init: Callable[[Array], Params]
    logical_axes: Callable[[], PyTree]
    apply: Callable[..., tuple[Array, Cache | None]]
    forward: Callable[..., tuple[Array, PyTree]]
    output: Callable[[Params], PyTree]
    output_table: Callable[[PyTree], PyTree]
    logits_of: Callable[[Array, PyTree], Array]
    init_cache: Callable[[int, int], Cache]
    unroll: Callable[[Params, int], Params]
    pick: Callable[[Array, Array], Array] = pick_by_gather
    map_rows: Callable[[Callable], Callable] = lambda of_rows: of_rows
    reference: Callable[[Params], Params] | None = None
    trained: str | None = None
    trained_config: Any = None

    def unembed(self, params: Params, hidden: Array) -> Array:
        """Float32 logits [..., V] of hidden states [..., D]."""
        return self.logits_of(hidden, self.output_table(self.output(params)))


def trained_part(policy: Policy, params: PyTree) -> PyTree:
    """What gradients and the optimizer see of `params`."""
    return params if policy.trained is None else params[policy.trained]


def frozen_part(policy: Policy, params: PyTree) -> PyTree:
    """What training leaves as it is of `params`: all but the trained branch, or nothing."""
    if policy.trained is None:
        return {}
    return {name: branch for name, branch in params.items() if name != policy.trained}


def with_trained_part(policy: Policy, params: PyTree, part: PyTree) -> PyTree:
    """`params`, or their frozen part, with the trained part replaced."""
    return part if policy.trained is None else {**params, policy.trained: part}


def checkpointed(body: Callable, remat: str) -> Callable:
    """The scanned body under the config's rematerialisation."""
    if remat == "none":
        return body
    kept = None
    if remat == "dots":
        policies = jax.checkpoint_policies
        kept = policies.save_from_both_policies(
            policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(MIXED)
        )
    return jax.checkpoint(body, policy=kept, prevent_cse=False)


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
            rotary = rotary_turns(config, jnp.zeros((1, 1), jnp.int32))
            see = masked(jnp.ones((1, 1, 1), bool))
            return layer.init(layer_key, row, rotary, see, None)["params"]

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

    def run_layer(layer_params, x, rotary, attend, cache, local):
        with jax.named_scope("layer"):
            return layer.apply({"params": layer_params}, x, rotary, attend, cache, local)

    def forward(params, tokens, positions, attend, caches=None, pin=None, pin_lookup=None):
        pin = pin or (lambda x: x)
        x = jnp.take(params["embedding"], tokens, axis=0, mode="clip").astype(dtype)
        # Decoding has the whole table.
        unrolled = isinstance(params["layers"], tuple)
        x = pin(x) if unrolled or pin_lookup is None else pin_lookup(x)
        if config.scale_embeddings:
            x = x * jnp.asarray(config.d_model**0.5, dtype)
        local = config.local_layers
        if TURNS in params:
            rotary = looked_up(params[TURNS], positions)
        else:
            rotary = rotary_turns(config, positions)
        if unrolled:
            renewed = []
            for i, layer_params in enumerate(params["layers"]):
                cache = None if caches is None else caches[i]
                own = None if local is None else local[i]
                x, cache = run_layer(layer_params, x, rotary, attend, cache, own)
                x = pin(x)
                renewed.append(cache)
            caches = tuple(renewed)
        else:

            def body(x, of_layer):
                layer_params, cache, own = of_layer
                x, cache = run_layer(layer_params, x, rotary, attend, cache, own)
                return pin(x), cache

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

    def output(params: Params) -> Float[Array, "..."]:
        return params["embedding" if config.tie_embeddings else "head"]

    def output_table(output: Float[Array, "..."]) -> Float[Array, "D V"]:
        return (output.T if config.tie_embeddings else output).astype(dtype)

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

    def unroll(params: Params, num_positions: int) -> Params:
        return unroll_layers(params, config, num_positions)

    return Policy(
        config,
        init,
        logical_axes,
        apply,
        forward,
        output,
        output_table,
        vocabulary_logits,
        init_cache,
        unroll,
    )


def num_params(params: Any) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(p.size for p in jax.tree.leaves(params))
