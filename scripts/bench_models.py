"""Models that the benchmarks share; this module alone loads no array library."""

from typing import Any

# d_model, layers, query heads, key heads, d_ff, vocabulary.
MODELS = {
    "tiny": (64, 2, 4, 2, 192, 512),
    "30m": (512, 8, 8, 4, 1536, 8192),
    "135m": (576, 30, 9, 3, 1536, 49_152),  # SmolLM2-135M
    "1b": (2048, 16, 32, 8, 8192, 128_256),  # Llama-3.2-1B
}


def decoder_config(model: str, **changes: Any) -> Any:
    """The `DecoderConfig` of one of `MODELS`; changes: its other fields."""
    from gdpo_jax.policies import DecoderConfig

    d_model, layers, heads, kv_heads, d_ff, vocab = MODELS[model]
    fields = {
        "vocab_size": vocab,
        "d_model": d_model,
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": d_model // heads,
        "d_ff": d_ff,
    }
    return DecoderConfig(**{**fields, **changes})
