"""One decoder-only transformer as a policy: pure functions over a plain tree of arrays.

Layers (layer.py) have their parameters stacked on a leading axis and scanned to train, or given as
a tuple and unrolled to decode (unrolling.py). Where parameters are stored in fewer bits than
float32, decoding also reads them as they are stored, one layer at a time. Without an embedding the
decoder takes hidden states in place of tokens, and without a final norm it gives those behind its
last layer.
"""

import functools
import numbers
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdpo_jax.errors import UserError
from gdpo_jax.policies.attention import masked
from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.layer import Layer, RMSNorm
from gdpo_jax.policies.policy import UNPLACED, Params, Policy
from gdpo_jax.policies.quantized import dequantized, quantize_matrices, quantized_axes
from gdpo_jax.policies.rotary import looked_up, rotary_table, rotary_turns
from gdpo_jax.policies.softmax_attention import MIXED
from gdpo_jax.policies.unrolling import TURNS, unroll_layers


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
    """The policy of a decoder with parameters embedding, layers, final_norm and, untied, head.

    Equal configurations have equal policies: what is compiled or traced for one is there for all.
    """
    return _decoder(config)._replace(config=config)


@functools.lru_cache(maxsize=64)
def _decoder(config: DecoderConfig) -> Policy:
    layer = Layer(config)
    norm = RMSNorm(config.norm_eps, offset=config.norm_offset)
    dtype = jnp.dtype(config.dtype)

    def init_boxed(key, *, stack):
        embed_key, layers_key, head_key = jax.random.split(key, 3)
        # Unit variance of the tied logits at the start.
        tables = nn.initializers.normal(config.d_model**-0.5)

        def table(names):
            def init(key, shape):
                return tables(key, shape).astype(config.table_dtype)

            return nn.with_logical_partitioning(init, names)

        row = jnp.zeros((1, 1, config.d_model), dtype)

        def init_layer(layer_key):
            rotary = rotary_turns(config, jnp.zeros((1, 1), jnp.int32))
            see = masked(jnp.ones((1, 1, 1), bool))
            return layer.init(layer_key, row, rotary, see, None)["params"]

        shape = (config.vocab_size, config.d_model)
        boxed = {
            "embedding": table(("vocab", "embed"))(embed_key, shape),
            "layers": stack(init_layer, jax.random.split(layers_key, config.num_layers)),
            "final_norm": norm.init(embed_key, row)["params"],
        }
        if not config.tie_embeddings:
            boxed["head"] = table(("embed", "vocab"))(head_key, shape[::-1])
        return boxed

    def init(key):
        def stack(init_layer, keys):
            def unboxed(layer_key):
                made = nn.unbox(init_layer(layer_key))
                return quantize_matrices(made, config.param_dtype) if config.quantized else made

            return jax.lax.map(unboxed, keys)

        return nn.unbox(init_boxed(key, stack=stack))

    @functools.cache
    def named_axes():
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
        if config.quantized:
            layers = quantized_axes(layers, config.param_dtype)
        return {**axes, "layers": layers}

    def logical_axes():
        # A tree of the caller's own; the names do not change, and to find them is a trace.
        return jax.tree.map(lambda names: names, named_axes(), is_leaf=lambda x: type(x) is tuple)

    def run_layer(layer_params, *given):
        with jax.named_scope("layer"):
            if config.quantized:
                layer_params = dequantized(layer_params, dtype)
            return layer.apply({"params": layer_params}, *given)

    def layer_of(layers, i, positions):
        if isinstance(layers, tuple):
            return layers[i]
        # No position is below 0, which the compiler does not know: of an index that is the same in
        # every turn of a decoding loop it would cut all layers out before the loop.
        index = i + jnp.minimum(jnp.min(positions), 0)
        return jax.tree.map(
            lambda p: jax.lax.dynamic_index_in_dim(p, index, keepdims=False), layers
        )

    def forward(params, tokens, positions, attend, caches=None, placement=UNPLACED):
        unrolled = TURNS in params
        local = config.local_layers
        if "embedding" in params:
            looked_for = (placement.all_rows if unrolled else placement.ids)(tokens)
            x = jnp.take(params["embedding"], looked_for, axis=0, mode="clip").astype(dtype)
            # Decoding has whole rows of the table.
            x = placement.layers(x) if unrolled else placement.lookup(x)
            if config.scale_embeddings:
                x = x * jnp.asarray(config.d_model**0.5, dtype)
        else:
            x = placement.layers(tokens.astype(dtype))
        if local is not None and not unrolled:
            # Of a part of the layers (`split_layers`): the first ones, or the last.
            depth = jax.tree.leaves(params["layers"])[0].shape[0]
            local = local[:depth] if "embedding" in params else local[len(local) - depth :]
        if TURNS in params:
            rotary = looked_up(params[TURNS], positions)
        else:
            rotary = rotary_turns(config, positions)
        if unrolled:
            renewed = []
            for i in range(config.num_layers):
                layer_params = layer_of(params["layers"], i, positions)
                cache = None if caches is None else caches[i]
                own = None if local is None else local[i]
                x, cache = run_layer(layer_params, x, rotary, attend, cache, own, placement)
                x = placement.layers(x)
                renewed.append(cache)
            caches = tuple(renewed)
        else:

            def body(x, of_layer):
                layer_params, cache, own = of_layer
                x, cache = run_layer(layer_params, x, rotary, attend, cache, own)
                return placement.layers(x), cache

            xs = (params["layers"], caches, None if local is None else jnp.array(local, bool))
            x, caches = jax.lax.scan(checkpointed(body, config.remat), x, xs)
        if "final_norm" not in params:
            return x, caches
        return norm.apply({"params": params["final_norm"]}, x), caches

    def output(params: Params) -> Float[Array, "..."]:
        return params["embedding" if config.tie_embeddings else "head"]

    def output_table(output: Float[Array, "..."]) -> Float[Array, "D V"]:
        return (output.T if config.tie_embeddings else output).astype(dtype)

    def unroll(params: Params, num_positions: int) -> Params:
        if config.quantized:
            params = {**params, "layers": dequantized(params["layers"], dtype)}
        return unroll_layers(params, config, num_positions)

    def decode_stored(params: Params, num_positions: int) -> Params:
        return {**params, TURNS: rotary_table(config, num_positions)}

    def split_layers(params: Params, count: int) -> tuple[Params, Params]:
        check_layer(config, count)
        first = jax.tree.map(lambda p: p[:count], params["layers"])
        others = jax.tree.map(lambda p: p[count:], params["layers"])
        lower = {"embedding": params["embedding"], "layers": first}
        return lower, {"layers": others, "final_norm": params["final_norm"]}

    return Policy(
        config,
        init,
        forward,
        output,
        output_table,
        unroll=unroll,
        decode_stored=None if config.param_dtype is None else decode_stored,
        logical_axes=logical_axes,
        split_layers=split_layers,
    )


def check_layer(config: DecoderConfig, layer: int) -> None:
    """Raises UserError for a layer, counted from 1, that the decoder does not have."""
    whole = isinstance(layer, numbers.Integral) and not isinstance(layer, bool)
    if not whole or not 1 <= layer <= config.num_layers:
        raise UserError(
            f"layer {layer!r} does not exist: the decoder has layers 1 to {config.num_layers}"
        )


__all__ = ["check_layer", "checkpointed", "decoder_policy"]
