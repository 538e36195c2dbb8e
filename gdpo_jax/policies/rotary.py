"""Rotary positions (RoPE, arXiv 2104.09864), by half rotation, with the published scalings."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.policies.config import DecoderConfig, RopeScaling


class Turns(NamedTuple):
    """Cosine and sine of every token's angles."""

    cos: Float[Array, "N T 1 F"]
    sin: Float[Array, "N T 1 F"]


class Rotary(NamedTuple):
    """The turns of all layers, and, in decoders with windows, those of local layers."""

    everywhere: Turns
    local: Turns | None

    def of_layer(self, local: bool | Bool[Array, ""] | None) -> Turns:
        """Those of a layer that sees its window only, or all; None in decoders without windows."""
        if local is None or self.local is None:
            return self.everywhere
        return jax.tree.map(lambda a, b: jnp.where(local, a, b), self.local, self.everywhere)


def rotary_turns(config: DecoderConfig, positions: Int[Array, "N T"]) -> Rotary:
    """Angles are position * theta^(-2i/K) for each of the K/2 rotary pairs, after any scaling."""
    half = config.head_dim // 2
    exponent = -jnp.arange(half, dtype=jnp.float32) / half

    def turns(frequency):
        angle = (positions.astype(jnp.float32)[..., None] * frequency[None, None])[:, :, None]
        return Turns(jnp.cos(angle), jnp.sin(angle))

    everywhere = turns(stretch(config.rope_theta**exponent, config.rope_scaling))
    if config.local_layers is None:
        return Rotary(everywhere, None)
    return Rotary(everywhere, turns(config.local_rope_theta**exponent))


def rotary_table(config: DecoderConfig, size: int) -> Rotary:
    """The turns of positions 0 to size - 1, for `looked_up`."""
    return rotary_turns(config, jnp.arange(size)[:, None])


def looked_up(table: Rotary, positions: Int[Array, "N T"]) -> Rotary:
    """`rotary_turns` of positions below the table's size.

    In a decoding loop compilers compute a cosine anew wherever it is used: in every layer's queries
    and keys.
    """
    return jax.tree.map(lambda turns: jnp.take(turns[:, 0], positions, axis=0, mode="clip"), table)


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


def rotate(x: Float[Array, "N T H K"], turns: Turns) -> Float[Array, "N T H K"]:
    """Pair (i, i + K/2) turns by its angle."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [first * turns.cos - second * turns.sin, second * turns.cos + first * turns.sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


__all__ = ["Rotary", "Turns", "looked_up", "rotary_table", "rotary_turns", "rotate"]
