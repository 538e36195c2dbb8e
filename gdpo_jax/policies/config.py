"""The shape of a decoder: a frozen, hashable record, fit to be static under `jax.jit`."""

import dataclasses
import numbers

from gdpo_jax.errors import UserError

# Types of stored matrices that stand for numbers by a scale (quantized.py).
QUANTIZED = ("int8", "int4")


def _check_positive(name: str, value: float) -> None:
    if not isinstance(value, numbers.Real) or not 0 < value < 3.4e38:
        raise UserError(f"{name} must be a positive finite number, got {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary angles stretch to rows longer than those first trained on.

    "linear" (Gemma 3): all angles turn `factor` times slower. "llama3" (Llama 3.1 and later):
    angles of wavelengths above original_positions / low_frequency_factor turn `factor` times
    slower, those below original_positions / high_frequency_factor stay, those between go over
    smoothly. Raises UserError for another kind, and for numbers that cannot be.
    """

    factor: float  # how many times slower angles turn
    kind: str = "llama3"  # "llama3" or "linear", which reads `factor` alone
    original_positions: int = 8192  # longest rows first trained on
    low_frequency_factor: float = 1.0  # longer wavelengths than original_positions / this: slower
    high_frequency_factor: float = 4.0  # shorter ones than original_positions / this: unchanged

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

    Norms, biases, softmax, logits and angles are float32 always, and so are matrices and tables
    unless `param_dtype` says otherwise. With a `window` all layers but every `global_every`-th are
    local: they see only positions less than `window` behind.

    Raises UserError for sizes that cannot be.
    """

    vocab_size: int  # rows of the embedding table
    d_model: int  # size of a hidden state
    num_layers: int  # each an attention and a feed-forward
    num_heads: int  # query heads
    num_kv_heads: int  # key and value heads, each shared by num_heads / num_kv_heads query heads
    head_dim: int  # size of a head, even
    d_ff: int  # inner size of the gated feed-forward
    max_positions: int  # longest row in tokens
    rope_theta: float = 10_000.0  # base of the rotary angles
    norm_eps: float = 1e-6  # added to the mean square in RMSNorm
    tie_embeddings: bool = True  # the embedding table makes the logits as well; else a head does
    attention_bias: bool = False  # of queries, keys and values (Qwen2.5)
    qk_norm: bool = False  # normalises each query and key head (Qwen3, Gemma 3)
    rope_scaling: RopeScaling | None = None  # stretches rotary angles (Llama 3.1 and later)
    window: int | None = None  # positions that local layers see (Gemma 3); None: no local layers
    global_every: int = 6  # with a window, every so-manyth layer sees all positions
    local_rope_theta: float = 10_000.0  # rotary base of local layers, without scaling
    query_scalar: int | None = None  # in place of the head size in q k / sqrt(K) (Gemma 3)
    norm_offset: bool = False  # adds one to the scales of norms (Gemma 3)
    post_norms: bool = False  # normalises what attention and feed-forward add (Gemma 3)
    scale_embeddings: bool = False  # multiplies embeddings by sqrt(d_model) (Gemma 3)
    activation: str = "silu"  # of the gate, "silu" or "gelu_tanh"
    dtype: str = "float32"  # of the matrix products, "float32" or "bfloat16"
    # In what matrices and tables are stored; None: float32, as training them needs. What is frozen
    # may be "bfloat16", or the matrices of layers "int8" or "int4" and the tables bfloat16.
    param_dtype: str | None = None
    # What the backward pass computes again: "none" (but scores of attention, always), all of a
    # "layer" but its input, or all but its "dots", products with weights and what attention mixed.
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
            ("param_dtype", (None, "float32", "bfloat16", *QUANTIZED)),
        ):
            if getattr(self, name) not in legal:
                raise UserError(
                    f"decoder {name} {getattr(self, name)!r} is unknown; legal: "
                    f"{', '.join(map(str, legal))}"
                )
        if self.param_dtype == "float32":  # one spelling, so that equal decoders are equal
            object.__setattr__(self, "param_dtype", None)

    @property
    def table_dtype(self) -> str:
        """Of embedding and head as they are stored, and of matrices that are not quantized."""
        return "float32" if self.param_dtype is None else "bfloat16"

    @property
    def quantized(self) -> bool:
        """Whether the matrices of layers are stored in 8 or 4 bits."""
        return self.param_dtype in QUANTIZED

    @property
    def local_layers(self) -> tuple[bool, ...] | None:
        """For each layer, whether it sees its window only; None where no decoder layer does."""
        if self.window is None:
            return None
        return tuple((layer + 1) % self.global_every > 0 for layer in range(self.num_layers))


__all__ = ["DecoderConfig", "RopeScaling"]
