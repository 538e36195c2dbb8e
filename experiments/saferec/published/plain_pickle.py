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


def _unshared(load: Callable) -> Callable:
    """An instruction that puts a known object on the stack once more, if that is harmless.

    Forty lists that each hold the next one twice take a hundred bytes and for ever to print; so
    only numbers, strings and tuples of them may stand in several places.
    """

    def guarded(unpickler) -> None:
        load(unpickler)
        value = unpickler.stack[-1]
        if isinstance(value, _CONTAINERS) and not (
            type(value) is tuple and not any(isinstance(part, _CONTAINERS) for part in value)
        ):
            raise UserError("it holds one container in several places")

    return guarded


def _shallow(load: Callable) -> Callable:
    """An instruction that makes a tuple, up to a depth: hashing a deep one overflows the stack."""

    def guarded(unpickler) -> None:
        load(unpickler)
        made = unpickler.stack[-1]
        tuples = [part for part in made if type(part) is tuple]
        inner = [unpickler.depths.get(id(part), (None, 1))[1] for part in tuples]
        if inner:
            depth = 1 + max(inner)
            if depth > _DEEPEST:
                raise UserError(f"it nests tuples more than {_DEEPEST} deep")
            # The tuple is kept along, so that no other object gets its id.
            unpickler.depths[id(made)] = (made, depth)

    return guarded


_GUARDS = {
    _unshared: (pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.DUP),
    _shallow: (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
}


# The Python implementation keeps its memo in a dictionary. The C one allocates as many slots as the
# largest index in the file, so that six hostile bytes could claim gigabytes.
class _PlainUnpickler(pickle._Unpickler):
    # A bytearray would be allocated at its claimed size before a byte of it is read.
    dispatch: ClassVar = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]
    } | {
        code[0]: guard(pickle._Unpickler.dispatch[code[0]])
        for guard, codes in _GUARDS.items()
        for code in codes
    }

    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.depths: dict[int, tuple[Any, int]] = {}

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
