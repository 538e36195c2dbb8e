"""config.json of Hugging Face folders to and from a `DecoderConfig`.

Both spellings of rotary angles are read: `rope_theta` with `rope_scaling`, and the newer
`rope_parameters`; the first is written, which old and new readers take. hub_fields.py has the
tables of fields.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig, RopeScaling
from gdpo_jax.policies.files.hub_fields import (
    DEFAULTS,
    FIXED_MULTIMODAL,
    FIXED_OF,
    HARMLESS_MULTIMODAL,
    HARMLESS_OF,
    READ,
    READ_GEMMA,
    READ_MULTIMODAL,
)
from gdpo_jax.policies.files.json_fields import check_known, flag, number, record, whole

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}
# Multimodal Gemma 3: its language model alone is taken, which text_config describes.
MULTIMODAL = "Gemma3ForConditionalGeneration"
MOST_LAYERS, LONGEST = 4096, 2**31 - 1
# Stored dtypes, and the dtype of products that loses nothing of them.
STORED_DTYPES = {
    "float32": "float32",
    "float64": "float32",
    "float16": "float32",
    "bfloat16": "bfloat16",
}


class HubConfig(NamedTuple):
    """What a config.json says.

    config: of the decoder. multimodal: whether the decoder is a part of the model, whose tensors
    have other names. stored_dtype: "float32" or "bfloat16", which holds the stored numbers.
    """

    config: DecoderConfig
    multimodal: bool
    stored_dtype: str


def config_from_hub(raw: Mapping[str, Any], where: str) -> HubConfig:
    """The decoder that a config.json describes.

    Raises UserError for an architecture that is not supported, a field that is missing or of
    another kind, fields that contradict each other, and every field or value that may change what
    is computed and that the decoder does not know.
    """
    outer, outer_where = raw, where
    family, multimodal = _family(raw, where)
    if multimodal:
        check_known(
            outer,
            where,
            used=READ_MULTIMODAL,
            fixed=FIXED_MULTIMODAL,
            harmless=HARMLESS_MULTIMODAL,
        )
        where = f"{where}: text_config"
        raw = {"model_type": family, **raw["text_config"]}
        if raw["model_type"] != family:
            raise UserError(
                f"{where}: model_type {raw['model_type']!r:.80} is not supported; legal: {family}"
            )
    read = READ_GEMMA if family == "gemma3_text" else READ
    check_known(raw, where, used=read, fixed=FIXED_OF[family], harmless=HARMLESS_OF[family])
    fields = {**DEFAULTS[family], **raw}
    depth = whole(fields, "num_hidden_layers", where, most=MOST_LAYERS)
    theta, scaling = _rope(raw, "full_attention", where, DEFAULTS[family].get("rope_theta", 1e4))
    config = {
        "vocab_size": whole(fields, "vocab_size", where),
        "num_layers": depth,
        "d_ff": whole(fields, "intermediate_size", where),
        "max_positions": whole(fields, "max_position_embeddings", where, most=LONGEST),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "norm_eps": number(fields, "rms_norm_eps", where, default=1e-6),
        "tie_embeddings": _tied(raw, outer, family, where),
        "attention_bias": family == "qwen2",
        "qk_norm": family in ("qwen3", "gemma3_text"),
        **_heads(fields, family, where),
    }
    if family == "gemma3_text":
        local_theta, local_scaling = _rope(raw, "sliding_attention", where, 1e4)
        if local_scaling is not None:
            raise UserError(f"{where}: rope scaling of sliding_attention layers is not supported")
        config |= {
            "window": whole(fields, "sliding_window", where, most=LONGEST),
            "global_every": _global_every(raw, depth, where),
            "local_rope_theta": local_theta,
            "query_scalar": whole(fields, "query_pre_attn_scalar", where),
            "norm_offset": True,
            "post_norms": True,
            "scale_embeddings": True,
            "activation": "gelu_tanh",
        }
    elif any(_layer_types(raw, depth, where) or []):
        raise UserError(f"{where}: layer_types is not supported; legal: full_attention only")
    check_special_ids(raw, config["vocab_size"], where)
    check_special_ids(outer, config["vocab_size"], outer_where)
    try:
        decoder = DecoderConfig(**config)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return HubConfig(decoder, multimodal, _stored_dtype(raw, outer, outer_where))


def _heads(fields: Mapping[str, Any], family: str, where: str) -> dict[str, int]:
    size, heads = whole(fields, "hidden_size", where), whole(fields, "num_attention_heads", where)
    kv_heads, head_dim = heads, None
    if fields.get("num_key_value_heads") is not None or family == "gemma3_text":
        kv_heads = whole(fields, "num_key_value_heads", where)
    if fields.get("head_dim") is not None or "head_dim" in DEFAULTS[family]:
        head_dim = whole(fields, "head_dim", where)
    elif size % heads:
        raise UserError(
            f"{where}: hidden_size {size} is not a multiple of num_attention_heads {heads}"
        )
    return {
        "d_model": size,
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim or size // heads,
    }


def _tied(raw: Mapping[str, Any], outer: Mapping[str, Any], family: str, where: str) -> bool:
    given = {
        flag(fields, "tie_word_embeddings", where)
        for fields in (raw, outer)
        if "tie_word_embeddings" in fields
    }
    if len(given) > 1:
        raise UserError(f"{where}: tie_word_embeddings contradicts that of the whole model")
    return given.pop() if given else DEFAULTS[family].get("tie_word_embeddings", False)


def check_special_ids(raw: Mapping[str, Any], vocab_size: int, where: str) -> None:
    """Raises UserError unless begin, end and padding ids are ids of the model."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = raw.get(name)
        many = name == "eos_token_id" and isinstance(value, list)
        for one in value if many else [value]:
            if one is not None or many:
                # Old Llama files have the padding id -1 for none.
                least = -1 if name == "pad_token_id" else 0
                whole({name: one}, name, where, least=least, most=vocab_size - 1)


def _family(raw: Mapping[str, Any], where: str) -> tuple[str, bool]:
    """The family of fields, and whether they describe a part of a multimodal model."""
    names, kind = raw.get("architectures"), raw.get("model_type")
    legal = [*ARCHITECTURES.values(), MULTIMODAL]
    if names is None:
        known = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
        names = [MULTIMODAL if kind == "gemma3" else known or kind]
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise UserError(f"{where}: architectures must name one architecture, got {names!r:.80}")
    if names[0] not in legal:
        raise UserError(
            f"{where}: architecture {names[0]!r} is not supported; legal: {', '.join(legal)}"
        )
    if names[0] == MULTIMODAL:
        if kind not in (None, "gemma3"):
            raise UserError(f"{where}: model_type {kind!r} is not that of {MULTIMODAL}, gemma3")
        if not isinstance(raw.get("text_config"), Mapping):
            raise UserError(f"{where}: text_config must be an object")
        return "gemma3_text", True
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise UserError(
            f"{where}: model_type {kind!r:.80} is not supported; legal: {', '.join(ARCHITECTURES)}"
        )
    if ARCHITECTURES[kind] != names[0]:
        raise UserError(f"{where}: model_type {kind!r} contradicts architectures {names}")
    return kind, False


def _stored_dtype(raw: Mapping[str, Any], outer: Mapping[str, Any], where: str) -> str:
    given = {
        str(value).removeprefix("torch.")
        for fields in (raw, outer)
        for value in (fields.get("dtype"), fields.get("torch_dtype"))
        if value not in (None, "auto")
    }
    if len(given) > 1:
        raise UserError(f"{where}: dtype and torch_dtype contradict each other: {sorted(given)}")
    name = given.pop() if given else "float32"
    if name not in STORED_DTYPES:
        raise UserError(
            f"{where}: dtype {name!r:.80} is not supported; legal: {', '.join(STORED_DTYPES)}"
        )
    return STORED_DTYPES[name]


def _rope(
    raw: Mapping[str, Any], layers: str, where: str, default: float
) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotary angles in one kind of layers."""
    local = layers == "sliding_attention"
    name = "rope_local_base_freq" if local else "rope_theta"
    newer, older = record(raw, "rope_parameters", where), record(raw, "rope_scaling", where)
    kinds = ("full_attention", "sliding_attention")
    if any(kind in newer for kind in kinds):
        unknown = [key for key in newer if key not in kinds]
        if unknown:
            raise UserError(f"{where}: rope_parameters {unknown} are not supported; legal: {kinds}")
        newer = record(newer, layers, where)
    elif local:
        newer = {}
    spellings = [rope for rope in (newer, {} if local else older) if rope]
    scalings = [_scaling(rope, where) for rope in spellings]
    if len(set(scalings)) > 1:
        raise UserError(f"{where}: rope_parameters and rope_scaling contradict each other")
    bases = [number(rope, "rope_theta", where) for rope in spellings if "rope_theta" in rope]
    if name in raw and not (bases and raw[name] is None):
        bases.append(number(raw, name, where))
    if len(set(bases)) > 1:
        raise UserError(f"{where}: {name} is given as {' and as '.join(map(str, bases))}")
    return bases[0] if bases else default, scalings[0] if scalings else None


def _scaling(rope: Mapping[str, Any], where: str) -> RopeScaling | None:
    named = [rope[name] for name in ("rope_type", "type") if rope.get(name) is not None]
    if any(kind != named[0] for kind in named):
        raise UserError(f"{where}: rope_type {named[0]!r} contradicts type {named[1]!r}")
    kind = named[0] if named else "default"
    extra = ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    keys = {"default": (), "linear": ("factor",), "llama3": ("factor", *extra)}
    if not isinstance(kind, str) or kind not in keys:
        raise UserError(
            f"{where}: rope type {kind!r:.80} is not supported; legal: {', '.join(keys)}"
        )
    missing = [key for key in keys[kind] if rope.get(key) is None]
    if missing:
        raise UserError(f"{where}: the {kind} rope scaling lacks {', '.join(missing)}")
    # Without llama3's other numbers, the original length has no say.
    check_known(
        rope,
        f"{where}: {kind} rope scaling",
        used=("rope_type", "type", "rope_theta", *keys[kind]),
        fixed={"partial_rotary_factor": (1.0, None)},
        harmless=("original_max_position_embeddings",),
    )
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind="linear", factor=number(rope, "factor", where))
    low, high = number(rope, "low_freq_factor", where), number(rope, "high_freq_factor", where)
    if low >= high:
        raise UserError(f"{where}: low_freq_factor {low} must be below high_freq_factor {high}")
    return RopeScaling(
        factor=number(rope, "factor", where),
        original_positions=whole(rope, "original_max_position_embeddings", where, most=LONGEST),
        low_frequency_factor=low,
        high_frequency_factor=high,
    )


def _layer_types(raw: Mapping[str, Any], depth: int, where: str) -> list[bool] | None:
    """For each layer, whether it sees its window only; None where the file does not say."""
    types = raw.get("layer_types")
    if types is None:
        return None
    kinds = ("full_attention", "sliding_attention")
    if not isinstance(types, list) or len(types) != depth or any(t not in kinds for t in types):
        raise UserError(
            f"{where}: layer_types is not supported; it must name one of {kinds} for each of "
            f"{depth} layers"
        )
    return [kind == "sliding_attention" for kind in types]


def _global_every(raw: Mapping[str, Any], depth: int, where: str) -> int:
    given = [
        whole(raw, name, where)
        for name in ("sliding_window_pattern", "_sliding_window_pattern")
        if raw.get(name) is not None
    ]
    local = _layer_types(raw, depth, where)
    if local is not None:
        first = local.index(False) + 1 if False in local else depth + 1
        given = [first, *given]
    patterns = {tuple((layer + 1) % every > 0 for layer in range(depth)) for every in given}
    if local is not None and tuple(local) not in patterns:
        raise UserError(
            f"{where}: layer_types is not supported; one layer in every n, the n-th, may have "
            "full_attention"
        )
    if len(patterns) > 1:
        raise UserError(
            f"{where}: layer_types, sliding_window_pattern and _sliding_window_pattern contradict "
            f"each other: one layer in {' and in '.join(map(str, given))} sees all"
        )
    return given[0] if given else 6


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
