"""Safetensors checkpoints: one file, or several with an index that says which holds what."""

import logging
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import ml_dtypes
import numpy as np

from gdpo_jax.errors import UserError
from gdpo_jax.policies.extras import as_user_error, need
from gdpo_jax.policies.files.json_files import read_json, write_json
from gdpo_jax.policies.files.weights import TensorSource

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
_LOG = logging.getLogger(__name__)
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def open_safetensors(directory: Path) -> TensorSource:
    """The tensors of a model's folder, none of them read.

    As in transformers, a single file goes before an index; of files that share a tensor, the index
    says which is read. Both choices, and files left from an older save, are logged.

    Raises UserError where there are no weights, a file is missing, damaged or outside of the
    folder, the index and the files contradict each other, or a tensor is not of floating point.
    """
    index = directory / INDEX
    if (directory / SINGLE).is_file():
        if index.is_file():
            _read_index(index)
        _log_what_is_not_read(directory, [SINGLE])
        return open_files([directory / SINGLE], str(directory))
    if not index.is_file():
        raise UserError(f"{directory} holds no weights: neither {SINGLE} nor {INDEX}")
    places = _read_index(index)
    files = sorted(set(places.values()))
    missing = [name for name in files if not (directory / name).is_file()]
    if missing:
        raise UserError(f"{directory} lacks weight files that its index names: {missing[:8]}")
    _log_what_is_not_read(directory, [INDEX, *files])
    named = {tensor: directory / name for tensor, name in places.items()}
    return open_files([directory / name for name in files], str(directory), named)


def _log_what_is_not_read(directory: Path, read: list[str]) -> None:
    found = sorted(path.name for path in directory.iterdir() if is_weights_file(path.name))
    left = [name for name in found if name not in read]
    if left:
        _LOG.warning("%s: the weights are read from %s and not from %s", directory, read[0], left)


def _read_index(index: Path) -> dict[str, str]:
    """Which file holds which tensor, by names inside of the folder."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: weight_map must be an object of tensors and their files")
    for tensor, name in places.items():
        parts = PurePosixPath(name).parts if isinstance(name, str) else ()
        outside = not parts or name.startswith("/") or ".." in parts
        if outside or "\\" in name or "\0" in name:
            raise UserError(
                f"{index}: weight_map must name a file inside of the folder for {tensor!r:.80}, "
                f"got {name!r:.80}"
            )
    return places


def open_files(
    files: Iterable[Path], where: str, places: Mapping[str, Path] | None = None
) -> TensorSource:
    """The tensors of given safetensors files together; `places` says which file is to hold which.

    Raises UserError for a damaged file, a tensor that is not of floating point, and where the files
    hold other tensors than `places` names.
    """
    safe_open = need("safetensors", "reading model weights").safe_open
    opened, shapes, twice = {}, {}, []
    for path in files:
        with as_user_error(f"{path} is not a safetensors file"):
            handle = safe_open(path, framework="numpy")
            parts = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118
            kinds = {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}
        for name, (dtype, shape) in kinds.items():
            if dtype not in FLOATS:
                raise UserError(
                    f"{path}: tensor {name} is {dtype}; legal: {', '.join(FLOATS)} (quantized "
                    "weights are not supported)"
                )
            if places is not None and name not in places:
                raise UserError(f"{path} holds the tensor {name}, which the index does not name")
            if places is not None and places[name] != path:
                twice.append(f"{name} (read from {places[name].name}, not {path.name})")
                continue
            opened[name], shapes[name] = handle, tuple(shape)
    lacking = [name for name in places or () if name not in opened]
    if lacking:
        raise UserError(
            f"{where}: the index names tensors that its files do not hold: {', '.join(lacking[:8])}"
        )
    if twice:
        _LOG.warning("%s holds tensors twice: %s", where, ", ".join(twice[:8]))

    def read(name: str, cuts: tuple[slice, ...]) -> np.ndarray:
        with as_user_error(f"{where}: the tensor {name} cannot be read"):
            return np.asarray(opened[name].get_slice(name)[cuts]).astype(np.float32)

    return TensorSource(where, shapes, read)


def write_safetensors(
    directory: Path, tensors: Iterable[Any], *, dtype: str, max_file_bytes: int
) -> None:
    """Writes (name, shape, value()) tensors to as many files as `max_file_bytes` asks for.

    Several files have an index. Every process calls it; the first one writes.
    """
    shards: list[list[Any]] = [[]]
    filled = total = 0
    for tensor in tensors:
        size = math.prod(tensor[1]) * DTYPES[dtype].itemsize
        if shards[-1] and filled + size > max_file_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled, total = filled + size, total + size
    count = len(shards)
    names = [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
    names = names if count > 1 else [SINGLE]
    for name, shard in zip(names, shards):
        write_file(directory / name, shard, dtype=dtype)
    if jax.process_index() == 0 and count > 1:
        places = {key: name for name, shard in zip(names, shards) for key, *_ in shard}
        about = {"metadata": {"total_size": total}, "weight_map": places}
        write_json(directory / INDEX, about)


def is_weights_file(name: str) -> bool:
    """Whether a file of a model's folder is one that `write_safetensors` writes."""
    shard = re.fullmatch(r"model-\d{5}-of-\d{5}\.safetensors", name)
    return name in (SINGLE, INDEX) or shard is not None


def write_file(path: Path, tensors: Iterable[Any], *, dtype: str) -> None:
    """Writes (name, shape, value()) tensors to one file. Every process calls it."""
    save_file = need("safetensors.numpy", "writing model weights").save_file
    writes = jax.process_index() == 0
    values = {}
    for name, _, value in tensors:
        array = value()
        if writes:
            values[name] = array.astype(DTYPES[dtype])
    if writes:
        save_file(values, path, metadata={"format": "pt"})


__all__ = [
    "DTYPES",
    "INDEX",
    "SINGLE",
    "is_weights_file",
    "open_files",
    "open_safetensors",
    "write_file",
    "write_safetensors",
]
