"""The shape of a decoder: a frozen, hashable record, fit to be static under `jax.jit`."""

import dataclasses

from gdpo_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How Llama 3.1 and later stretch rotary angles beyond `original_positions`.

    Angles of wavelengths above original_positions / low_frequency_factor turn `factor` times
    slower, those below original_positions / high_frequency_factor stay, those between go over
    smoothly.
    """

    factor: float
    original_positions: int = 8192
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes and numerics of one decoder-only transformer.

    `num_heads` query heads share `num_kv_heads` key and value heads. Parameters are float32 always;
    `dtype` ("float32" or "bfloat16") is that of the matrix products, while norms, softmax, logits
    and angles stay float32. `remat` says what the backward pass recomputes: "none", all of a
    "layer" but its input, or all but its "dots", the matrix products.

    What families differ in: `attention_bias` adds a bias to queries, keys and values (Qwen2.5);
    `qk_norm` normalises each query and key head (Qwen3); `rope_scaling` stretches rotary angles
    (Llama 3.1 and later).

    Raises UserError for sizes that cannot be.
    """

    vocab_size: int
    d_model: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    d_ff: int
    max_positions: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    tie_embeddings: bool = True
    attention_bias: bool = False
    qk_norm: bool = False
    rope_scaling: RopeScaling | None = None
    dtype: str = "float32"
    remat: str = "none"

    def __post_init__(self):
        sizes = ("vocab_size", "d_model", "num_layers", "num_heads", "num_kv_heads", "d_ff")
        for name in (*sizes, "head_dim", "max_positions"):
            if getattr(self, name) < 1:
                raise UserError(f"decoder {name} must be at least 1, got {getattr(self, name)}")
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"decoder num_heads {self.num_heads} is not a multiple of "
                f"num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise UserError(f"decoder head_dim must be even for rotary pairs, got {self.head_dim}")
        for name, legal in (
            ("dtype", ("float32", "bfloat16")),
            ("remat", ("none", "layer", "dots")),
        ):
            if getattr(self, name) not in legal:
                raise UserError(
                    f"decoder {name} {getattr(self, name)!r} is unknown; legal: {', '.join(legal)}"
                )
