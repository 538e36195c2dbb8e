"""Open model families as tables of sizes: one constructor a family, `qwen3("0.6B")`.

Each row gives the published config of one size; keyword arguments of a constructor override fields,
for instance `dtype`, `remat` or a smaller `num_layers`. Where a base checkpoint differs from the
Instruct one (some of Qwen2.5, in `norm_eps` or `max_positions`), the row is the latter's;
`open_pretrained` reads what the folder itself says.
"""

from collections.abc import Mapping
from typing import Any

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig, RopeScaling

# d_model, layers, query heads, key heads, head size, d_ff, tied, and what a size has of its own.
Row = tuple[int, int, int, int, int, int, bool, dict[str, Any]]

SMOLLM2: dict[str, Row] = {
    "135M": (576, 30, 9, 3, 64, 1536, True, {"rope_theta": 100_000.0}),
    "360M": (960, 32, 15, 5, 64, 2560, True, {"rope_theta": 100_000.0}),
    "1.7B": (2048, 24, 32, 32, 64, 8192, True, {"rope_theta": 130_000.0}),
}
LLAMA3: dict[str, Row] = {
    "3-8B": (4096, 32, 32, 8, 128, 14336, False, {"max_positions": 8192}),
    "3-70B": (8192, 80, 64, 8, 128, 28672, False, {"max_positions": 8192}),
    "3.2-1B": (2048, 16, 32, 8, 64, 8192, True, {"rope_scaling": RopeScaling(factor=32.0)}),
    "3.2-3B": (3072, 28, 24, 8, 128, 8192, True, {"rope_scaling": RopeScaling(factor=32.0)}),
    "3.1-8B": (4096, 32, 32, 8, 128, 14336, False, {"rope_scaling": RopeScaling(factor=8.0)}),
    "3.1-70B": (8192, 80, 64, 8, 128, 28672, False, {"rope_scaling": RopeScaling(factor=8.0)}),
    "3.1-405B": (16384, 126, 128, 8, 128, 53248, False, {"rope_scaling": RopeScaling(factor=8.0)}),
    "3.3-70B": (8192, 80, 64, 8, 128, 28672, False, {"rope_scaling": RopeScaling(factor=8.0)}),
}
QWEN25: dict[str, Row] = {
    "0.5B": (896, 24, 14, 2, 64, 4864, True, {"vocab_size": 151_936}),
    "1.5B": (1536, 28, 12, 2, 128, 8960, True, {"vocab_size": 151_936}),
    "3B": (2048, 36, 16, 2, 128, 11008, True, {"vocab_size": 151_936}),
    "7B": (3584, 28, 28, 4, 128, 18944, False, {}),
    "14B": (5120, 48, 40, 8, 128, 13824, False, {}),
    "32B": (5120, 64, 40, 8, 128, 27648, False, {}),
    "72B": (8192, 80, 64, 8, 128, 29568, False, {}),
}
QWEN3: dict[str, Row] = {
    "0.6B": (1024, 28, 16, 8, 128, 3072, True, {}),
    "1.7B": (2048, 28, 16, 8, 128, 6144, True, {}),
    "4B": (2560, 36, 32, 8, 128, 9728, True, {}),
    "8B": (4096, 36, 32, 8, 128, 12288, False, {}),
    "14B": (5120, 40, 40, 8, 128, 17408, False, {}),
    "32B": (5120, 64, 64, 8, 128, 25600, False, {}),
}

_SHORT: dict[str, Any] = {"window": 512, "max_positions": 32_768, "vocab_size": 262_144}
_LONG: dict[str, Any] = {"rope_scaling": RopeScaling(factor=8.0, kind="linear")}
GEMMA3: dict[str, Row] = {
    "270M": (640, 18, 4, 1, 256, 2048, True, _SHORT),
    "1B": (1152, 26, 4, 1, 256, 6912, True, _SHORT),
    "4B": (2560, 34, 8, 4, 256, 10240, True, _LONG),
    "12B": (3840, 48, 16, 8, 256, 15360, True, _LONG),
    "27B": (5376, 62, 32, 16, 128, 21504, True, {**_LONG, "query_scalar": 168}),
}


def _build(family: str, table: Mapping[str, Row], size: str, shared: dict, changes: dict):
    if size not in table:
        raise UserError(f"{family} has no size {size!r}; sizes: {', '.join(table)}")
    d_model, layers, heads, kv_heads, head_dim, d_ff, tied, own = table[size]
    fields = {
        "d_model": d_model,
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        "d_ff": d_ff,
        "tie_embeddings": tied,
    }
    return DecoderConfig(**{**fields, **shared, **own, **changes})


def smollm2(size: str, **changes: Any) -> DecoderConfig:
    """SmolLM2 (arXiv 2502.02737): "135M", "360M", "1.7B". Raises UserError for another size."""
    shared = {"vocab_size": 49_152, "max_positions": 8192, "norm_eps": 1e-5}
    return _build("SmolLM2", SMOLLM2, size, shared, changes)


def llama3(size: str, **changes: Any) -> DecoderConfig:
    """Llama 3 text models (arXiv 2407.21783), "3-8B" to "3.3-70B". UserError for another size."""
    shared = {
        "vocab_size": 128_256,
        "max_positions": 131_072,
        "rope_theta": 500_000.0,
        "norm_eps": 1e-5,
    }
    return _build("Llama 3", LLAMA3, size, shared, changes)


def qwen25(size: str, **changes: Any) -> DecoderConfig:
    """Qwen2.5 (arXiv 2412.15115), "0.5B" to "72B": biased queries, keys and values.

    Raises UserError for another size.
    """
    shared = {
        "vocab_size": 152_064,
        "max_positions": 32_768,
        "rope_theta": 1_000_000.0,
        "attention_bias": True,
    }
    return _build("Qwen2.5", QWEN25, size, shared, changes)


def qwen3(size: str, **changes: Any) -> DecoderConfig:
    """Qwen3 dense models (arXiv 2505.09388), "0.6B" to "32B": normalised queries and keys.

    Raises UserError for another size.
    """
    shared = {
        "vocab_size": 151_936,
        "max_positions": 40_960,
        "rope_theta": 1_000_000.0,
        "qk_norm": True,
    }
    return _build("Qwen3", QWEN3, size, shared, changes)


def gemma3(size: str, **changes: Any) -> DecoderConfig:
    """Gemma 3 text models (arXiv 2503.19786), "270M" to "27B": one layer in six sees all.

    Raises UserError for another size.
    """
    shared = {
        "vocab_size": 262_208,
        "max_positions": 131_072,
        "rope_theta": 1_000_000.0,
        "qk_norm": True,
        "window": 1024,
        "query_scalar": 256,
        "norm_offset": True,
        "post_norms": True,
        "scale_embeddings": True,
        "activation": "gelu_tanh",
    }
    return _build("Gemma 3", GEMMA3, size, shared, changes)
