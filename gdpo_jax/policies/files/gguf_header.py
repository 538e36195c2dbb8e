"""The metadata and the tensors' places of a GGUF file (version 2 or 3, little-endian).

Every count and size is held against the length of the file before it is used, so that a damaged
file costs neither time nor memory.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gdpo_jax.errors import UserError
from gdpo_jax.policies.extras import as_user_error, need

# Kinds of values, by their number in the file, as struct spells them.
SCALARS = {**dict(enumerate("BbHhIif?")), **dict(enumerate("Qqd", 10))}
STRING, ARRAY = 8, 9
DEEPEST = 4  # arrays of arrays
DIMENSIONS = 4


class GGUFTensor(NamedTuple):
    """A tensor: its shape (rows last), the number of its kind, and its bytes in the file."""

    shape: tuple[int, ...]
    kind: Any
    data: np.ndarray


class GGUFFile(NamedTuple):
    """Metadata by name, and tensors whose bytes are read when they are looked at."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]


class _Cursor:
    """Reads values one after another. Raises ValueError where the file ends before."""

    def __init__(self, data: memoryview):
        self.data, self.at = data, 0

    def take(self, size: int) -> memoryview:
        if size > len(self.data) - self.at:
            raise ValueError(f"it ends before byte {self.at + size}, which its header asks for")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self) -> str:
        return str(self.take(self.number("Q")), "utf-8")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return self.text()
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind != ARRAY or depth == DEEPEST:
            raise ValueError(f"a value at byte {self.at} is of the unknown kind {kind}")
        inner, count = self.number("I"), self.number("Q")
        if inner in SCALARS:
            dtype = np.dtype(SCALARS[inner]).newbyteorder("<")
            return np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
        # A string takes eight bytes at least, an array twelve.
        if count > (len(self.data) - self.at) // 8:
            raise ValueError(f"an array at byte {self.at} has {count} values, more than the file")
        return [self.value(inner, depth + 1) for _ in range(count)]


def read_gguf(path: Path) -> GGUFFile:
    """The header of a file. Raises UserError for a missing file, or one that is damaged."""
    gguf = need("gguf", "reading a GGUF file")
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if not path.stat().st_size:
        raise UserError(f"{path} is not a GGUF file: it is empty")
    with as_user_error(f"{path} is not a GGUF file"):
        return _read(memoryview(np.memmap(path, mode="r", dtype=np.uint8)), gguf)


def _read(data: memoryview, gguf: Any) -> GGUFFile:
    cursor = _Cursor(data)
    if bytes(cursor.take(4)) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version = cursor.number("I")
    if version not in (2, 3):
        raise ValueError(f"its version is {version}; legal: 2 and 3, little-endian")
    num_tensors, num_fields = cursor.number("Q"), cursor.number("Q")
    fields: dict[str, Any] = {}
    for _ in range(num_fields):
        name = cursor.text()
        if name in fields:
            raise ValueError(f"the field {name} is there twice")
        fields[name] = cursor.value(cursor.number("I"))
    alignment = fields.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment is {alignment}, no power of two")
    places = {}
    for _ in range(num_tensors):
        name, dimensions = cursor.text(), cursor.number("I")
        if name in places or not 1 <= dimensions <= DIMENSIONS:
            raise ValueError(f"the tensor {name} is there twice or has {dimensions} dimensions")
        shape = tuple(cursor.number("Q") for _ in range(dimensions))
        places[name] = (shape, gguf.GGMLQuantizationType(cursor.number("I")), cursor.number("Q"))
    cursor.take(-cursor.at % alignment)
    tensors, expected = {}, 0
    for name, (shape, kind, offset) in places.items():
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if shape[0] % block or 0 in shape:
            raise ValueError(f"the tensor {name} of shape {shape} is not of blocks of {block}")
        if offset != expected:
            raise ValueError(f"the tensor {name} lies at {offset} and not at {expected}")
        row, rows = shape[0] // block * size, int(np.prod(shape[1:], dtype=object))
        cursor.take(-cursor.at % alignment)
        data = np.frombuffer(cursor.take(rows * row), np.uint8).reshape(rows, row)
        tensors[name] = GGUFTensor(shape[::-1], kind, data)
        expected += rows * row + -(rows * row) % alignment
    return GGUFFile(fields, tensors)


__all__ = ["GGUFFile", "GGUFTensor", "read_gguf"]
