"""Reading pickles of plain data without running anything that a pickle may ask for."""

import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

from gdpo_jax.errors import UserError

# Old protocols build sets by calling these two; every other plain value has its own instruction.
_PLAIN = {
    (module, name): kind
    for module in ("builtins", "__builtin__")
    for name, kind in (("set", set), ("frozenset", frozenset))
}


# The Python implementation keeps its memo in a dictionary. The C one allocates as many slots as the
# largest index in the file, so that six hostile bytes could claim gigabytes.
class _PlainUnpickler(pickle._Unpickler):
    # A bytearray would be allocated at its claimed size before a byte of it is read.
    dispatch: ClassVar = {
        code: load
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
