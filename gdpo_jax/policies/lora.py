"""Low-rank adapters (LoRA, arXiv 2106.09685): W + (alpha / rank) A B, with W left as it is.

Adapters are a tree of their own beside the parameters. Apart, a layer computes x W + (x A) B, whose
backward pass needs no gradient of W; merged, it computes x (W + A B). The reference policy is the
same parameters without the adapters. A matrix [inputs, outputs] has A [inputs, rank] and B [rank,
outputs], stacked over layers; heads and head size count as one axis.
"""

import dataclasses
import functools
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from gdpo_jax.errors import UserError
from gdpo_jax.policies.policy import Params, Policy
from gdpo_jax.policies.quantized import INPUT_AXES, dequantized, is_quantized

BASE, ADAPTERS = "base", "adapters"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """What is adapted, and how. Raises UserError for a rank or target that cannot be."""

    rank: int = 16  # inner size of A B
    alpha: float = 32.0  # A B counts alpha / rank times
    targets: tuple[str, ...] = tuple(INPUT_AXES)  # matrices of each layer

    def __post_init__(self):
        targets = (self.targets,) if isinstance(self.targets, str) else tuple(self.targets)
        object.__setattr__(self, "targets", targets)
        if not isinstance(self.rank, numbers.Integral) or self.rank < 1:
            raise UserError(f"lora rank must be at least 1, got {self.rank}")
        if not isinstance(self.alpha, numbers.Real) or not math.isfinite(self.alpha):
            raise UserError(f"lora alpha must be a finite number, got {self.alpha!r}")
        unknown = [target for target in targets if target not in INPUT_AXES]
        if unknown or not targets:
            raise UserError(f"lora targets {unknown} are unknown; legal: {', '.join(INPUT_AXES)}")
        if len(set(targets)) < len(targets):
            raise UserError(f"lora targets {list(targets)} name a matrix twice")

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


def lora_init(key: Key[Array, ""], params: PyTree, config: LoraConfig) -> Params:
    """Adapters that change nothing yet: A uniform within 1 / sqrt(inputs), B zero.

    params: of the decoder, layers stacked, as arrays or shapes. The key is consumed.
    """
    layers = {}
    for target, own in zip(config.targets, jax.random.split(key, len(config.targets))):
        depth, *shape = params["layers"][target].shape
        inputs, outputs = _sizes(target, shape)
        bound = inputs**-0.5
        shape_a = (depth, inputs, config.rank)
        layers[target] = {
            "a": jax.random.uniform(own, shape_a, jnp.float32, minval=-bound, maxval=bound),
            "b": jnp.zeros((depth, config.rank, outputs), jnp.float32),
        }
    return {"layers": layers}


def lora_axes(logical_axes: PyTree, config: LoraConfig) -> PyTree:
    """Logical axis names of the adapters, from those of the decoder: the rank stays whole."""
    layers = {}
    for target in config.targets:
        own = logical_axes["layers"][target]
        depth, *names = own.qvalue if is_quantized(own) else own
        count = INPUT_AXES[target]
        layers[target] = {"a": (depth, names[0], None), "b": (depth, None, names[count])}
    return {"layers": layers}


def lora_apply(params: Params, adapters: Params, config: LoraConfig) -> Params:
    """Parameters with the adapters apart: each layer adds (x A) B to x W."""
    layers = dict(params["layers"])
    for target, pair in adapters["layers"].items():
        layers[f"{target}_lora"] = {"a": pair["a"], "b": pair["b"] * config.scale}
    return {**params, "layers": layers}


def lora_merge(params: Params, adapters: Params, config: LoraConfig) -> Params:
    """Parameters of the plain decoder that computes the same: W + (alpha / rank) A B, in float32.

    Matrices that are not adapted stay as they are.
    """
    layers = dict(params["layers"])
    for target, pair in adapters["layers"].items():
        layers[target] = merged_matrix(layers[target], pair["a"], pair["b"], config)
    return {**params, "layers": layers}


def merged_matrix(matrix: Any, a: Array, b: Array, config: LoraConfig) -> Float[Array, "..."]:
    """W + (alpha / rank) A B of one matrix, or of stacked ones, summed in float32."""
    added = (a @ b) * config.scale
    return dequantized(matrix, jnp.float32).astype(jnp.float32) + added.reshape(matrix.shape)


@dataclasses.dataclass(frozen=True)
class MergedLayers:
    """A stacked matrix [L, ...] whose layers are made float32, with what adapters add to them, when
    they are asked for: those of a large base would not all fit beside it.

    matrix: as it is stored. pair: its adapters, or None.
    """

    matrix: Any
    pair: Params | None
    config: LoraConfig | None

    @property
    def shape(self) -> tuple[int, ...]:
        """That of all layers."""
        return self.matrix.shape

    def __getitem__(self, layer: int) -> Float[Array, "..."]:
        return _merged_layer(self.matrix, self.pair, layer, self.config)


def merged_by_layer(
    params: Params, adapters: Params | None = None, config: LoraConfig | None = None
) -> Params:
    """What `lora_merge` gives, for `save_pretrained`: with `MergedLayers` for adapted matrices, and
    for quantized ones."""
    if "layers" not in params:
        # Of another policy than the decoder, which `save_pretrained` refuses.
        return params
    layers = dict(params["layers"])
    pairs = {} if adapters is None else adapters["layers"]
    for name, leaf in layers.items():
        if name in pairs or is_quantized(leaf):
            layers[name] = MergedLayers(leaf, pairs.get(name), config)
    return {**params, "layers": layers}


def lora_policy(policy: Policy, config: LoraConfig) -> Policy:
    """A policy over {"base": parameters, "adapters": adapters}; training changes the adapters.

    The base is an argument of every program, not a constant in it, so that it lies on the mesh as
    it would without adapters. The policy also takes plain parameters, for instance those of the
    reference, which are `params["base"]`. Equal arguments have equal policies, as in
    `decoder_policy`.
    """
    return _adapted(policy, config)._replace(config=policy.config, trained_config=config)


@functools.lru_cache(maxsize=64)
def _adapted(policy: Policy, config: LoraConfig) -> Policy:
    def joined(params: Params) -> Params:
        if ADAPTERS not in params:
            return params
        return lora_apply(params[BASE], params[ADAPTERS], config)

    def init(key: Key[Array, ""]) -> Params:
        base_key, adapter_key = jax.random.split(key)
        base = policy.init(base_key)
        return {BASE: base, ADAPTERS: lora_init(adapter_key, base, config)}

    def logical_axes() -> PyTree:
        axes = policy.logical_axes()
        return {BASE: axes, ADAPTERS: lora_axes(axes, config)}

    def unroll(params: Params, num_positions: int) -> Params:
        full = policy.config.dtype == "float32" and policy.config.param_dtype is None
        if ADAPTERS in params and full:
            merged = lora_merge(params[BASE], params[ADAPTERS], config)
            return policy.unroll(merged, num_positions)
        # In bfloat16 a sum with W would round the small A B away, unlike in training, and of a base
        # in fewer bits it would be a copy in float32.
        return policy.unroll(joined(params), num_positions)

    def forward(params: Params, *arguments: Any, **options: Any) -> Any:
        return policy.forward(joined(params), *arguments, **options)

    return policy._replace(
        init=init,
        logical_axes=logical_axes,
        forward=forward,
        output=lambda params: policy.output(params.get(BASE, params)),
        unroll=unroll,
        decode_stored=policy.decode_stored
        and (lambda params, size: policy.decode_stored(joined(params), size)),
        reference=lambda params: params[BASE],
        split_layers=lambda params, count: policy.split_layers(joined(params), count),
        trained=ADAPTERS,
        trained_config=config,
    )


@functools.partial(jax.jit, static_argnums=3)
def _merged_layer(
    matrix: Any, pair: Params | None, layer: Int[Array, ""] | int, config: LoraConfig | None
) -> Float[Array, "..."]:
    own, pair = jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(leaf, layer, keepdims=False), (matrix, pair)
    )
    if pair is None:
        return dequantized(own, jnp.float32)
    return merged_matrix(own, pair["a"], pair["b"], config)


def _sizes(target: str, shape: Any) -> tuple[int, int]:
    """Inputs and outputs of one layer's matrix of `shape`."""
    count = INPUT_AXES[target]
    return math.prod(shape[:count]), math.prod(shape[count:])
