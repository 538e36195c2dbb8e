"""The shape of a decoder: a frozen, hashable record, fit to be static under `jax.jit`."""

import dataclasses
import math
import numbers

from gdpo_jax.errors import UserError


def _check_positive(name: str, value: float) -> None:
    if not isinstance(value, numbers.Real) or not 0 < value < math.inf:
        raise UserError(f"{name} must be a positive finite number, got {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary angles stretch to rows longer than those first trained on.

    "linear" (Gemma 3): all angles turn `factor` times slower. "llama3" (Llama 3.1 and later):
    angles of wavelengths above original_positions / low_frequency_factor turn `factor` times
    slower, those below original_positions / high_frequency_factor stay, those between go over
    smoothly. Raises UserError for another kind, and for numbers that cannot be.
    """

    factor: float
    kind: str = "llama3"
    original_positions: int = 8192
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0

    def __post_init__(self):
        if self.kind not in ("llama3", "linear"):
            raise UserError(f"rope scaling {self.kind!r} is unknown; legal: llama3, linear")
        for name in ("factor", "original_positions", "low_frequency_factor"):
            _check_positive(f"rope scaling {name}", getattr(self, name))
        _check_positive("rope scaling high_frequency_factor", self.high_frequency_factor)
        if self.low_frequency_factor >= self.high_frequency_factor:
            raise UserError(
                f"rope scaling low_frequency_factor {self.low_frequency_factor} must be below "
                f"high_frequency_factor {self.high_frequency_factor}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes and numerics of one decoder-only transformer.

    `num_heads` query heads share `num_kv_heads` key and value heads. Parameters are float32 always;
    `dtype` ("float32" or "bfloat16") is that of the matrix products, while norms, softmax, logits
    and angles stay float32. `remat` says what the backward pass recomputes: "none" (but scores of
    attention, always), all of a "layer" but its input, or all but its "dots", the products with
    weights and what attention mixed.

    What families differ in: `attention_bias` adds a bias to queries, keys and values (Qwen2.5);
    `qk_norm` normalises each query and key head (Qwen3); `rope_scaling` stretches rotary angles
    (Llama 3.1 and later). Gemma 3 has the rest: `window` makes all layers local but every
    `global_every`-th; local ones see only positions less than `window` behind, on angles of
    `local_rope_theta` without scaling. `query_scalar` takes the head size's place in q k / sqrt(K),
    `norm_offset` adds one to the scales of norms, `post_norms` normalise what attention and
    feed-forward add, `scale_embeddings` multiplies embeddings by sqrt(d_model), and `activation` is
    "silu" or "gelu_tanh".

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
    window: int | None = None
    global_every: int = 6
    local_rope_theta: float = 10_000.0
    query_scalar: int | None = None
    norm_offset: bool = False
    post_norms: bool = False
    scale_embeddings: bool = False
    activation: str = "silu"
    dtype: str = "float32"
    remat: str = "none"

    def __post_init__(self):
        sizes = ("vocab_size", "d_model", "num_layers", "num_heads", "num_kv_heads", "d_ff")
        for name in (*sizes, "head_dim", "max_positions", "window", "global_every", "query_scalar"):
            value = getattr(self, name)
            optional = name in ("window", "query_scalar") and value is None
            if optional:
                continue
            if not isinstance(value, numbers.Integral):
                raise UserError(f"decoder {name} must be a whole number, got {value!r}")
            if value < 1:
                raise UserError(f"decoder {name} must be at least 1, got {value}")
        for name in ("rope_theta", "local_rope_theta", "norm_eps"):
            _check_positive(f"decoder {name}", getattr(self, name))
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"decoder num_heads {self.num_heads} is not a multiple of "
                f"num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise UserError(f"decoder head_dim must be even for rotary pairs, got {self.head_dim}")
        for name, legal in (
            ("activation", ("silu", "gelu_tanh")),
            ("dtype", ("float32", "bfloat16")),
            ("remat", ("none", "layer", "dots")),
        ):
            if getattr(self, name) not in legal:
                raise UserError(
                    f"decoder {name} {getattr(self, name)!r} is unknown; legal: {', '.join(legal)}"
                )

    @property
    def local_layers(self) -> tuple[bool, ...] | None:
        """For each layer, whether it sees its window only; None where no decoder layer does."""
        if self.window is None:
            return None
        return tuple((layer + 1) % self.global_every > 0 for layer in range(self.num_layers))


__all__ = ["DecoderConfig", "RopeScaling"]
