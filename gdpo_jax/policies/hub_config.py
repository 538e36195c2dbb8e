"""config.json of Hugging Face folders to and from a `DecoderConfig`.

Both spellings of rotary angles are read: `rope_theta` with `rope_scaling`, and the newer
`rope_parameters`; the first is written, which old and new readers take.
"""

from collections.abc import Mapping
from typing import Any

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig, RopeScaling

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}
# Multimodal Gemma 3: its language model alone is taken, from under this prefix.
MULTIMODAL = "Gemma3ForConditionalGeneration"
TEXT_PREFIX = "language_model."

# What an absent field of these families stands for.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 128},
    "gemma3_text": {
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": True,
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 4096,
        "query_pre_attn_scalar": 256,
        "rope_theta": 1_000_000.0,
    },
}
# Fields whose other values change the computation in ways that the decoder does not know.
_FIXED = {
    "hidden_act": ("silu", None),
    "hidden_activation": ("gelu_pytorch_tanh", None),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "use_sliding_window": (False, None),
    "partial_rotary_factor": (1.0, None),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "use_bidirectional_attention": (False, None),
    "quantization_config": (None,),
}


def config_from_hub(raw: Mapping[str, Any], where: str) -> tuple[DecoderConfig, str]:
    """The decoder that a config.json describes, and the prefix of its tensors' names.

    Raises UserError for an architecture that is not supported, a field that is missing, or a value
    that the decoder does not know.
    """
    prefix = ""
    architecture = (raw.get("architectures") or [ARCHITECTURES.get(raw.get("model_type", ""))])[0]
    if architecture == MULTIMODAL and isinstance(raw.get("text_config"), Mapping):
        prefix = TEXT_PREFIX
        raw = {"model_type": "gemma3_text", **raw["text_config"]}
    elif architecture not in ARCHITECTURES.values():
        raise UserError(
            f"{where}: architecture {architecture or raw.get('model_type')!r} is not supported; "
            f"legal: {', '.join([*ARCHITECTURES.values(), MULTIMODAL])}"
        )
    family = raw.get("model_type")
    if family not in ARCHITECTURES:
        raise UserError(
            f"{where}: model_type {family!r} is not supported; legal: {', '.join(ARCHITECTURES)}"
        )
    fields = {**_DEFAULTS[family], **{k: v for k, v in raw.items() if v is not None}}
    for name, legal in _FIXED.items():
        if fields.get(name) not in legal:
            raise UserError(f"{where}: {name}={fields[name]!r} is not supported; legal: {legal[0]}")

    def need(name: str) -> Any:
        if name not in fields:
            raise UserError(f"{where}: the field {name} is missing")
        return fields[name]

    heads, size = need("num_attention_heads"), need("hidden_size")
    theta, scaling = _rope(fields, "full_attention", where)
    config = {
        "vocab_size": need("vocab_size"),
        "d_model": size,
        "num_layers": need("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": fields.get("num_key_value_heads", heads),
        "head_dim": fields.get("head_dim", size // heads),
        "d_ff": need("intermediate_size"),
        "max_positions": need("max_position_embeddings"),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "norm_eps": float(fields.get("rms_norm_eps", 1e-6)),
        "tie_embeddings": fields.get("tie_word_embeddings", False),
        "attention_bias": family == "qwen2",
        "qk_norm": family in ("qwen3", "gemma3_text"),
    }
    if family == "gemma3_text":
        local_theta, local_scaling = _rope(fields, "sliding_attention", where)
        if local_scaling is not None:
            raise UserError(f"{where}: rope scaling of sliding_attention layers is not supported")
        scalar = int(fields["query_pre_attn_scalar"])
        if scalar != fields["query_pre_attn_scalar"]:
            raise UserError(f"{where}: query_pre_attn_scalar must be whole")
        config |= {
            "window": fields["sliding_window"],
            "global_every": _global_every(fields, where),
            "local_rope_theta": local_theta,
            "query_scalar": scalar,
            "norm_offset": True,
            "post_norms": True,
            "scale_embeddings": True,
            "activation": "gelu_tanh",
        }
    return DecoderConfig(**config), prefix


def _rope(fields: Mapping[str, Any], layers: str, where: str) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotary angles in one kind of layers."""
    local = layers == "sliding_attention"
    theta = fields.get("rope_local_base_freq" if local else "rope_theta", 10_000.0)
    rope = fields.get("rope_parameters") or {}
    if isinstance(rope.get(layers), Mapping):
        rope = rope[layers]
    elif local:
        rope = {}
    elif not rope:
        rope = fields.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta", theta))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    keys = {
        "linear": ("factor",),
        "llama3": (
            "factor",
            "original_max_position_embeddings",
            "low_freq_factor",
            "high_freq_factor",
        ),
    }
    if kind not in keys:
        raise UserError(
            f"{where}: rope type {kind!r} is not supported; legal: default, {', '.join(keys)}"
        )
    missing = [key for key in keys[kind] if key not in rope]
    if missing:
        raise UserError(f"{where}: the {kind} rope scaling lacks {', '.join(missing)}")
    if kind == "linear":
        return theta, RopeScaling(kind="linear", factor=float(rope["factor"]))
    factor, original, low, high = (rope[key] for key in keys[kind])
    return theta, RopeScaling(
        factor=float(factor),
        original_positions=int(original),
        low_frequency_factor=float(low),
        high_frequency_factor=float(high),
    )


def _global_every(fields: Mapping[str, Any], where: str) -> int:
    depth, types = fields["num_hidden_layers"], fields.get("layer_types")
    every = fields.get("sliding_window_pattern", fields.get("_sliding_window_pattern", 6))
    if types is None:
        return every
    wide = [i + 1 for i, kind in enumerate(types) if kind == "full_attention"]
    every = wide[0] if wide else depth + 1
    if len(types) != depth or wide != list(range(every, depth + 1, every)):
        raise UserError(
            f"{where}: layer_types is not supported; one layer in every n, the n-th, may have "
            "full_attention"
        )
    return every


def config_to_hub(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of a decoder, of the architecture that computes what it does.

    Raises UserError where none of the architectures does.
    """
    family = "llama"
    if config.window is not None:
        family = "gemma3_text"
    elif config.qk_norm:
        family = "qwen3"
    elif config.attention_bias:
        family = "qwen2"
    gemma = family == "gemma3_text"
    expected = {
        "attention_bias": family == "qwen2",
        "qk_norm": family in ("qwen3", "gemma3_text"),
        "norm_offset": gemma,
        "post_norms": gemma,
        "scale_embeddings": gemma,
        "activation": "gelu_tanh" if gemma else "silu",
    }
    wrong = {name: getattr(config, name) for name, value in expected.items()}
    wrong = {name: value for name, value in wrong.items() if value != expected[name]}
    if not gemma and config.query_scalar not in (None, config.head_dim):
        wrong["query_scalar"] = config.query_scalar
    if wrong:
        raise UserError(f"a {family} checkpoint cannot hold a decoder with {wrong}")
    raw = {
        "architectures": [ARCHITECTURES[family]],
        "model_type": family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": _scaling_to_hub(config.rope_scaling),
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_activation" if gemma else "hidden_act": "gelu_pytorch_tanh" if gemma else "silu",
    }
    if family != "qwen2":
        raw["attention_bias"] = False
    if gemma:
        kinds = {True: "sliding_attention", False: "full_attention"}
        raw |= {
            "rope_local_base_freq": config.local_rope_theta,
            "sliding_window": config.window,
            "sliding_window_pattern": config.global_every,
            "layer_types": [kinds[local] for local in config.local_layers],
            "query_pre_attn_scalar": config.query_scalar or config.head_dim,
        }
    return raw


def _scaling_to_hub(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    if scaling.kind == "linear":
        return {"rope_type": "linear", "factor": scaling.factor}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "original_max_position_embeddings": scaling.original_positions,
        "low_freq_factor": scaling.low_frequency_factor,
        "high_freq_factor": scaling.high_frequency_factor,
    }
