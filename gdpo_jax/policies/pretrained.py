"""Open models on disk: a Hugging Face folder or a GGUF file, and a folder back that others open."""

import dataclasses
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import jax

from gdpo_jax.errors import UserError
from gdpo_jax.policies.config import DecoderConfig
from gdpo_jax.policies.decoder import Params
from gdpo_jax.policies.gguf_files import gguf_config, gguf_source, gguf_tokenizer, open_gguf
from gdpo_jax.policies.hub_config import config_from_hub, config_to_hub
from gdpo_jax.policies.hub_tokenizer import load_hub_tokenizer, save_hub_tokenizer
from gdpo_jax.policies.json_files import read_json, write_json
from gdpo_jax.policies.safetensors_files import DTYPES, open_safetensors, write_safetensors
from gdpo_jax.policies.tensor_names import Path, Stored, gguf_tensors, hub_tensors
from gdpo_jax.policies.tokenizer import Tokenizer
from gdpo_jax.policies.weights import (
    TensorSource,
    abstract_params,
    load_params,
    stored_tensors,
)


class Pretrained(NamedTuple):
    """A model on disk, of which the description is read and the weights are not.

    config: of the decoder. source, stored: the tensors, and where each parameter lies in them.
    tokenizer(): reads the tokenizer. ignore: tensors that are not of the decoder.
    """

    config: DecoderConfig
    source: TensorSource
    stored: dict[Path, Stored]
    tokenizer: Callable[[], Tokenizer]
    ignore: Callable[[str], bool] = lambda name: False


def open_pretrained(path: str | FilePath, **changes: Any) -> Pretrained:
    """A model's folder (config.json, safetensors, tokenizer.json) or GGUF file.

    changes: fields of the decoder's configuration to replace, such as `dtype` and `remat`.

    Raises UserError for a folder or file that is none, an architecture or a setting that is not
    supported, and a package that is not installed.
    """
    path = FilePath(path)
    if path.is_file():
        return _open_gguf(path, changes)
    if not path.is_dir():
        raise UserError(f"there is no model folder or file {path}")
    if not (path / "config.json").is_file():
        raise UserError(f"{path} is not a model folder: it has no config.json")
    config, prefix = config_from_hub(read_json(path / "config.json"), str(path / "config.json"))

    def ignore(name: str) -> bool:
        # A copy of tied embeddings, constants that old files hold, and eyes.
        copy = config.tie_embeddings and name == f"{prefix}lm_head.weight"
        return copy or name.endswith("rotary_emb.inv_freq") or not name.startswith(prefix)

    return Pretrained(
        config=dataclasses.replace(config, **changes),
        source=open_safetensors(path),
        stored=hub_tensors(config, prefix),
        tokenizer=lambda: load_hub_tokenizer(path, vocab_size=config.vocab_size),
        ignore=ignore,
    )


def _open_gguf(path: FilePath, changes: dict[str, Any]) -> Pretrained:
    reader = open_gguf(path)
    config = gguf_config(reader, str(path))
    return Pretrained(
        config=dataclasses.replace(config, **changes),
        source=gguf_source(reader, config, str(path)),
        stored=gguf_tensors(config),
        tokenizer=lambda: gguf_tokenizer(reader, str(path)),
    )


def load_pretrained(pretrained: Pretrained, shardings: Any = None) -> Params:
    """The float32 parameters, read tensor by tensor; each device gets its own slices only.

    shardings: one for every parameter, as `training.shardings_for` gives them; None puts all on one
    device.

    Raises UserError that lists all missing, superfluous and wrongly shaped tensors.
    """
    return load_params(
        pretrained.source,
        pretrained.stored,
        abstract_params(pretrained.config),
        shardings=shardings,
        ignore=pretrained.ignore,
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

    Raises UserError for a decoder that no published architecture computes, parameters that are not
    the decoder's, or an unknown dtype.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown; legal: {', '.join(DTYPES)}")
    directory = FilePath(directory)
    about = {**config_to_hub(config), "dtype": dtype, "torch_dtype": dtype}
    _check_params(config, params)
    if jax.process_index() == 0:
        directory.mkdir(parents=True, exist_ok=True)
    tensors = stored_tensors(params, hub_tensors(config))
    write_safetensors(directory, tensors, dtype=dtype, max_file_bytes=max_file_bytes)
    if jax.process_index() != 0:
        return
    if tokenizer is not None:
        save_hub_tokenizer(directory, tokenizer)
        ids = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
        stops = list(tokenizer.stop_ids or (tokenizer.eos_id,))
        ids["eos_token_id"] = stops if len(stops) > 1 else stops[0]
        about |= ids
        write_json(directory / "generation_config.json", ids)
    write_json(directory / "config.json", about)


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
