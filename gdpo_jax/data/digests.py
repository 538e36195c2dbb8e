"""A short hash of what records hold, to see whether two runs have the same data."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from gdpo_jax.data.pipeline import RecordSource
from gdpo_jax.errors import UserError

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def records_digest(records: RecordSource) -> str:
    """Sixteen hexadecimal digits (the start of a SHA-256) of the records and their order.

    Equal records give equal digests in every process: the order of a dictionary's keys and of a
    set does not count, and lists and tuples are alike. NumPy and JAX arrays count by dtype, shape
    and values; functions and classes by name; other objects by type and fields, or by type and
    representation.

    Raises:
        UserError: a value that differs from another by its place in memory alone, or one that
            contains itself; names the record.
    """
    hashed = hashlib.sha256()
    for index in range(len(records)):
        try:
            text = _canonical(records[index])
        except Exception as error:
            raise UserError(
                f"record {index} has no digest that another process would find again: {error}; "
                "give records of plain values (text, numbers, lists, dictionaries, arrays)"
            ) from error
        hashed.update(text.encode("ascii"))
        hashed.update(b"\n")
    return hashed.hexdigest()[:16]


def _canonical(value: Any) -> str:
    """JSON with sorted keys; what JSON does not have stands as `{"type": ..., "value": ...}`."""
    try:
        return json.dumps(value, sort_keys=True, default=_plain)
    except TypeError:  # keys that are no text, or of several types
        return json.dumps(_with_text_keys(value), sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _tagged("bytes", bytes(value).hex())
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        array = np.asarray(value)
        held = array.tolist() if array.dtype == object else array.tobytes().hex()
        return _tagged("array", [str(array.dtype), list(array.shape), held])
    if isinstance(value, Set):
        return _tagged("set", sorted(map(_canonical, value)))
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return _tagged(kind, {field.name: getattr(value, field.name) for field in fields})
    if hasattr(value, "__qualname__"):
        return _tagged("name", f"{value.__module__}.{value.__qualname__}")
    if type(value).__repr__ is not object.__repr__:
        text = repr(value)
        if _ADDRESS.search(text):
            raise TypeError(f"the representation {text[:80]} holds an address in memory")
        return _tagged(kind, text)
    if hasattr(value, "__dict__"):
        return _tagged(kind, vars(value))
    raise TypeError(f"an object of {kind} shows neither its fields nor its value")


def _with_text_keys(value: Any) -> Any:
    """The value with every dictionary that has other keys as a set of pairs, at any depth."""
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value):
            return {key: _with_text_keys(each) for key, each in value.items()}
        pairs = [[_canonical(key), _canonical(each)] for key, each in value.items()]
        return _tagged("pairs", sorted(pairs))
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(each) for each in value]
    return value


def _tagged(kind: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "value": value}


__all__ = ["records_digest"]
