"""Reading pickles of plain data without running anything that a pickle may ask for."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from gdpo_jax.errors import UserError

# Old protocols build sets by calling these two; every other plain value has its own instruction.
_PLAIN = {
    (module, name): kind
    for module in ("builtins", "__builtin__")
    for name, kind in (("set", set), ("frozenset", frozenset))
}

_CONTAINERS = (list, tuple, dict, set, frozenset)
_DEEPEST = 50


def _check_shared(value: Any) -> None:
    """Of a known object that is put on the stack once more.

    Forty lists that each hold the next one twice take a hundred bytes and for ever to print; so
    only numbers, strings and tuples of them may stand in several places.
    """
    flat = type(value) is tuple and not any(isinstance(part, _CONTAINERS) for part in value)
    if isinstance(value, _CONTAINERS) and not flat:
        raise UserError("it holds one container in several places")


def _check_depth(value: tuple) -> None:
    """Of a new tuple, whose parts were checked before: hashing a deep one overflows the stack."""
    if _depth(value) > _DEEPEST:
        raise UserError(f"it nests tuples more than {_DEEPEST} deep")


def _depth(value: tuple) -> int:
    return 1 + max((_depth(part) for part in value if type(part) is tuple), default=0)


def _checked(load: Callable, check: Callable[[Any], None]) -> Callable:
    """The instruction, and then the check of what it leaves on top of the stack."""

    def guarded(unpickler) -> None:
        load(unpickler)
        check(unpickler.stack[-1])

    return guarded


_CHECKS = {
    code[0]: check
    for check, codes in (
        (_check_shared, (pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.DUP)),
        (_check_depth, (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)),
    )
    for code in codes
}


# The Python implementation keeps its memo in a dictionary. The C one allocates as many slots as the
# largest index in the file, so that six hostile bytes could claim gigabytes.
class _PlainUnpickler(pickle._Unpickler):
    # A bytearray would be allocated at its claimed size before a byte of it is read.
    dispatch: ClassVar = {
        code: _checked(load, _CHECKS[code]) if code in _CHECKS else load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        raise UserError(
            f"it asks for {module}.{name}; only dict, list, tuple, set, str, bytes, numbers, "
            "booleans and None are read from pickles. Convert the file to JSON where you trust it"
        )

    def persistent_load(self, pid: Any) -> Any:
        raise UserError("it refers to objects outside the file")


def load_plain_pickle(path: Path) -> Any:
    """The value of a pickle made of builtin containers, strings and numbers.

    Raises `UserError` for a missing or damaged file and for anything else in it; no code named by
    the file is imported or called.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return loads_plain_pickle(data, name=str(path))


def loads_plain_pickle(data: bytes, *, name: str = "pickle") -> Any:
    """The value of pickled bytes; see `load_plain_pickle`."""
    try:
        return _PlainUnpickler(io.BytesIO(data)).load()
    except UserError as error:
        raise UserError(f"{name} is refused: {error}") from None
    # Damaged bytes make the unpickler raise nearly any exception; all of them mean the same.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{name} is truncated or not a pickle ({reason})") from None


__all__ = ["load_plain_pickle", "loads_plain_pickle"]
