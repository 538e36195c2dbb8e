"""Matrices of layers in 8 or 4 bits, for parameters that training leaves as they are (QLoRA, arXiv
2305.14314, with whole numbers): w is about q * s, a whole number times one scale for each BLOCK
inputs of an output.

A matrix is then a `QArray` of the package qwix: a pytree of `qvalue` and `scale`, which are
stacked, scanned, sliced and placed as one array would be. A layer makes its matrices from it when
it computes with them.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from gdpo_jax.policies.extras import need

# The first axes of a layer's matrix that are inputs; the others are outputs.
INPUT_AXES = {"query": 1, "key": 1, "value": 1, "out": 2, "gate": 1, "up": 1, "down": 1}
BLOCK = 128  # inputs that share a scale, or the most that divide them and it


def is_quantized(leaf: Any) -> bool:
    """Whether a node of a tree is a `QArray`."""
    return hasattr(leaf, "qvalue")


def quantize_matrices(layer: dict[str, Any], dtype: str) -> dict[str, Any]:
    """One layer's parameters with its matrices in `dtype`, "int8" or "int4"; scales are bfloat16.

    Raises UserError where qwix is not installed.
    """
    return layer | {name: _quantize(layer[name], name, dtype) for name in INPUT_AXES}


@functools.partial(jax.jit, static_argnums=(1, 2))
def quantize_stacked(matrix: Float[Array, "L ..."], name: str, dtype: str) -> Any:
    """The matrix `name` of all layers, quantized one layer at a time; raises as the above."""
    return jax.lax.map(lambda own: _quantize(own, name, dtype), matrix)


def _quantize(matrix: Float[Array, "..."], name: str, dtype: str) -> Any:
    qwix = need("qwix", f"param_dtype={dtype!r}")
    last = INPUT_AXES[name] - 1
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return qwix.quantize(
            matrix.astype(jnp.float32),
            jnp.dtype(dtype),
            channelwise_axes=[axis for axis in range(matrix.ndim) if axis != last],
            tiled_axes={last: math.gcd(matrix.shape[last], BLOCK)},
            scale_dtype=jnp.bfloat16,
        )


def dequantized(tree: PyTree, dtype: Any) -> PyTree:
    """The tree with every quantized matrix as an array of `dtype`."""

    def plain(leaf: Any) -> Any:
        if not is_quantized(leaf):
            return leaf
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return need("qwix", "a quantized matrix").dequantize(leaf.astype(dtype))

    return jax.tree.map(plain, tree, is_leaf=is_quantized)


def quantized_axes(layers: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Logical axis names of stacked layers once their matrices are quantized.

    layers: the names before. Blocks of inputs are whole on every device.
    """
    qarray = need("qwix", f"param_dtype={dtype!r}").QArray
    found = dict(layers)
    for name, count in INPUT_AXES.items():
        names = layers[name]
        of_scales = (*names[:count], None, *names[count + 1 :])
        found[name] = qarray(qvalue=names, scale=of_scales, qtype=jnp.dtype(dtype))
    return found


__all__ = [
    "BLOCK",
    "INPUT_AXES",
    "dequantized",
    "is_quantized",
    "quantize_matrices",
    "quantize_stacked",
    "quantized_axes",
]
