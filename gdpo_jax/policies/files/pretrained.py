"""Open models on disk: a Hugging Face folder or a GGUF file, and a folder back that others open."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import jax
import numpy as np

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.files.adapters import CONFIG as ADAPTER_CONFIG
from gdpo_jax.policies.files.gguf import gguf_config, gguf_source, gguf_tokenizer
from gdpo_jax.policies.files.gguf_header import read_gguf
from gdpo_jax.policies.files.hub_config import check_special_ids, config_from_hub, config_to_hub
from gdpo_jax.policies.files.hub_tokenizer import load_hub_tokenizer, save_hub_tokenizer
from gdpo_jax.policies.files.json_files import read_json, write_json
from gdpo_jax.policies.files.safetensors import (
    DTYPES,
    is_weights_file,
    open_safetensors,
    write_safetensors,
)
from gdpo_jax.policies.files.staging import check_not_interrupted, staged
from gdpo_jax.policies.files.tensor_names import (
    OTHER_PARTS,
    Path,
    Stored,
    find_layout,
    gguf_tensors,
    hub_tensors,
)
from gdpo_jax.policies.files.weights import (
    TensorSource,
    abstract_params,
    check_tensors,
    load_params,
    stored_tensors,
)
from gdpo_jax.policies.policy import Params
from gdpo_jax.policies.quantized import INPUT_AXES, is_quantized, quantize_stacked
from gdpo_jax.policies.tokenizer import Tokenizer

CONFIG, GENERATION = "config.json", "generation_config.json"
# Files of an older tokenizer that would change what a saved one does.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
    GENERATION,
)
_LOG = logging.getLogger(__name__)


class Pretrained(NamedTuple):
    """A model on disk, of which the description is read and the weights are not.

    config: of the decoder. source, stored: the tensors, and where each parameter lies in them.
    tokenizer(): reads the tokenizer. ignore: tensors that are not of the decoder. tied_head: the
    name of a head beside tied embeddings, which must equal them. stored_dtype: "float32" or
    "bfloat16", which holds the stored numbers.
    """

    config: DecoderConfig
    source: TensorSource
    stored: dict[Path, Stored]
    tokenizer: Callable[[], Tokenizer]
    ignore: Callable[[str], bool] = lambda name: False
    tied_head: str | None = None
    stored_dtype: str = "float32"


def open_pretrained(path: str | FilePath, **changes: Any) -> Pretrained:
    """A model's folder (config.json, safetensors, tokenizer.json) or GGUF file.

    changes: fields of the decoder's configuration to replace, such as `dtype` and `remat`.

    Raises UserError for a folder or file that is none, an architecture or a setting that is not
    supported, tensors that are missing, superfluous or of another shape, and a package that is not
    installed.
    """
    path = FilePath(path)
    if path.is_file():
        opened = _open_gguf(path, changes)
    elif path.is_dir():
        opened = _open_folder(path, changes)
    else:
        raise UserError(f"there is no model folder or file {path}")
    abstract = jax.tree.leaves_with_path(abstract_params(opened.config))
    leaves = {tuple(entry.key for entry in path): leaf for path, leaf in abstract}
    check_tensors(opened.source, opened.stored, leaves, opened.ignore)
    return opened


def _open_folder(path: FilePath, changes: dict[str, Any]) -> Pretrained:
    check_not_interrupted(path, CONFIG)
    if not (path / CONFIG).is_file():
        adapters = ": it holds adapters; open their base, and these with load_adapters"
        adapters = adapters if (path / ADAPTER_CONFIG).is_file() else ""
        raise UserError(f"{path} is not a model folder: it has no {CONFIG}{adapters}")
    found = config_from_hub(read_json(path / CONFIG), str(path / CONFIG))
    if (path / GENERATION).is_file():
        ids = read_json(path / GENERATION)
        check_special_ids(ids, found.config.vocab_size, str(path / GENERATION))
    if (path / ADAPTER_CONFIG).is_file():
        _LOG.warning("the adapters in %s are not applied; load_adapters opens them", path)
    source = open_safetensors(path)
    layout = find_layout(source.shapes, found.multimodal, str(path))
    tied_head = layout.head if found.config.tie_embeddings else None

    def ignore(name: str) -> bool:
        # A copy of tied embeddings, constants that old files hold, and what sees pictures.
        other = found.multimodal and name.startswith(OTHER_PARTS)
        return other or name == tied_head or name.endswith("rotary_emb.inv_freq")

    return Pretrained(
        config=dataclasses.replace(found.config, **changes),
        source=source,
        stored=hub_tensors(found.config, layout),
        tokenizer=lambda: load_hub_tokenizer(path, vocab_size=found.config.vocab_size),
        ignore=ignore,
        tied_head=tied_head if tied_head in source.shapes else None,
        stored_dtype=found.stored_dtype,
    )


def _open_gguf(path: FilePath, changes: dict[str, Any]) -> Pretrained:
    file = read_gguf(path)
    config = gguf_config(file, str(path))
    return Pretrained(
        config=dataclasses.replace(config, **changes),
        source=gguf_source(file, config, str(path)),
        stored=gguf_tensors(config),
        tokenizer=lambda: gguf_tokenizer(file, str(path), vocab_size=config.vocab_size),
    )


def load_pretrained(pretrained: Pretrained, shardings: Any = None) -> Params:
    """The parameters in the configuration's `param_dtype`, read tensor by tensor; each device gets
    its own slices only, and matrices are quantized one after the other.

    shardings: one for every parameter, as `training.shardings_for` gives them; None puts all on one
    device.

    Raises UserError for tensors that hold numbers that are not finite, and for a head that differs
    from the embeddings to which the configuration ties it.
    """
    _check_tied_head(pretrained)
    config = pretrained.config

    def finish(path: Path, array: jax.Array) -> Any:
        if not config.quantized or path[-1] not in INPUT_AXES:
            return array
        made = quantize_stacked(array, path[-1], config.param_dtype)
        if shardings is None:
            return made
        return jax.device_put(made, shardings["layers"][path[-1]])

    plain = jax.tree.map(
        lambda to: to.qvalue if is_quantized(to) else to, shardings, is_leaf=is_quantized
    )
    return load_params(
        pretrained.source,
        pretrained.stored,
        abstract_params(config),
        shardings=plain,
        ignore=pretrained.ignore,
        finish=finish,
    )


def _check_tied_head(pretrained: Pretrained) -> None:
    """Compares a stored head with the tied embeddings, some rows at a time."""
    head, source = pretrained.tied_head, pretrained.source
    if head is None:
        return
    table = pretrained.stored["embedding",].name
    same = source.shapes[head] == source.shapes[table]
    if same:
        rows, width = source.shapes[table]
        step = max(1, 2**24 // width)
        cuts = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
        same = all(
            np.array_equal(*(source.read(name, (cut,)) for name in (head, table)), equal_nan=True)
            for cut in cuts
        )
    if not same:
        raise UserError(
            f"{source.where}: tie_word_embeddings is true, but the tensor {head} differs from "
            f"{table}; set it to false in {CONFIG}, or remove the tensor"
        )


def save_pretrained(
    directory: str | FilePath,
    config: DecoderConfig,
    params: Params,
    tokenizer: Tokenizer | None = None,
    *,
    dtype: str = "float32",
    max_file_bytes: int = 2 * 10**9,
) -> None:
    """Writes a folder that `open_pretrained` and transformers open to the same logits.

    dtype: "float32" or "bfloat16", of the stored numbers. max_file_bytes: weights beyond it go to
    several files with an index. With several processes all call it, and the first one writes.

    An older model in the folder is replaced whole: its weights go, whatever their number of files,
    and a process that is killed leaves the old model or a folder that is refused. Without
    `tokenizer`, the files of an older one stay, and no other file is touched.

    Raises UserError for a decoder that no published architecture computes, parameters that are not
    the decoder's, or an unknown dtype.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown; legal: {', '.join(DTYPES)}")
    directory = FilePath(directory)
    about = {**config_to_hub(config), "dtype": dtype, "torch_dtype": dtype}
    _check_params(config, params)
    if tokenizer is not None:
        ids = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
        stops = list(tokenizer.stop_ids or (tokenizer.eos_id,))
        ids["eos_token_id"] = stops if len(stops) > 1 else stops[0]
        about |= ids

    def stale(name: str) -> bool:
        return is_weights_file(name) or (tokenizer is not None and name in TOKENIZER_FILES)

    with staged(directory, last=CONFIG, stale=stale) as staging:
        tensors = stored_tensors(params, hub_tensors(config))
        write_safetensors(staging, tensors, dtype=dtype, max_file_bytes=max_file_bytes)
        if jax.process_index() == 0:
            write_json(staging / CONFIG, about)
            if tokenizer is not None:
                save_hub_tokenizer(staging, tokenizer)
                write_json(staging / GENERATION, ids)


def _check_params(config: DecoderConfig, params: Params) -> None:
    expected = {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(abstract_params(config))
    }
    given = {
        jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(params)
    }
    wrong = [name for name in {**expected, **given} if expected.get(name) != given.get(name)]
    if wrong:
        raise UserError(
            f"the parameters are not those of the decoder: {', '.join(wrong[:8])} differ. Layers "
            "must be stacked, and adapters merged (lora_merge)"
        )


__all__ = ["Pretrained", "load_pretrained", "open_pretrained", "save_pretrained"]
