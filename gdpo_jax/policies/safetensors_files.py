"""Safetensors checkpoints: one file, or several with an index that says which holds what."""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from gdpo_jax.errors import UserError
from gdpo_jax.policies.extras import need
from gdpo_jax.policies.json_files import read_json, write_json
from gdpo_jax.policies.weights import TensorSource

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def open_safetensors(directory: Path) -> TensorSource:
    """The tensors of a model's folder, none of them read.

    Raises UserError where there are no weights, a file of the index is missing, a file is damaged,
    or a tensor is not of floating point.
    """
    index = directory / INDEX
    if index.is_file():
        files = sorted(set(read_json(index).get("weight_map", {}).values()))
    elif (directory / SINGLE).is_file():
        files = [SINGLE]
    else:
        raise UserError(f"{directory} holds no weights: neither {SINGLE} nor {INDEX}")
    missing = [name for name in files if not (directory / name).is_file()]
    if missing:
        raise UserError(f"{directory} lacks weight files that its index names: {missing}")
    return open_files([directory / name for name in files], str(directory))


def open_files(files: Iterable[Path], where: str) -> TensorSource:
    """The tensors of given safetensors files together."""
    safe_open = need("safetensors", "reading model weights").safe_open
    opened, shapes = {}, {}
    for path in files:
        try:
            handle = safe_open(path, framework="numpy")
        except Exception as error:  # the library's own error derives from Exception alone
            raise UserError(f"{path} is not a safetensors file: {error}") from error
        for name in handle.keys():  # noqa: SIM118 (a handle is no mapping)
            part = handle.get_slice(name)
            if part.get_dtype() not in FLOATS:
                raise UserError(
                    f"{path}: tensor {name} is {part.get_dtype()}; legal: {', '.join(FLOATS)}"
                )
            opened[name], shapes[name] = handle, tuple(part.get_shape())

    def read(name: str, cuts: tuple[slice, ...]) -> np.ndarray:
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
    if jax.process_index() == 0:
        # Of an earlier save to this folder, readers would take the wrong one of the two.
        (directory / (SINGLE if count > 1 else INDEX)).unlink(missing_ok=True)
        if count > 1:
            places = {key: name for name, shard in zip(names, shards) for key, *_ in shard}
            about = {"metadata": {"total_size": total}, "weight_map": places}
            write_json(directory / INDEX, about)


def write_file(path: Path, tensors: Iterable[Any], *, dtype: str) -> None:
    """Writes (name, shape, value()) tensors to one file, which gets its name when complete."""
    save_file = need("safetensors.numpy", "writing model weights").save_file
    writes = jax.process_index() == 0
    values = {}
    for name, _, value in tensors:
        array = value()
        if writes:
            values[name] = array.astype(DTYPES[dtype])
    if writes:
        part = path.with_name(f"{path.name}.part")
        save_file(values, part, metadata={"format": "pt"})
        os.replace(part, path)
