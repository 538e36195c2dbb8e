"""JSON Lines files that grow row by row, and survive a process that is killed while it writes."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from experiments.common.files.json_rows import Row
from gdpo_jax.errors import UserError

__all__ = ["append_row", "read_log"]

_BLOCK = 1 << 16


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Appends one row, behind the last whole one: a last line that was cut while written goes.

    The row is on disk when this returns. One process writes a file at a time. Raises `UserError`
    where the file cannot be written; it then ends as before.
    """
    line = json.dumps(row).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file:
            end = _mend(file)
            try:
                if file.write(line) != len(line):
                    raise OSError("the row was written in part; is the disk full?")
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def read_log(path: Path) -> list[Row]:
    """The rows of a file of `append_row`, without a last line that was cut while written.

    Empty where there is no file. Raises `UserError` that names file and line for any other damage.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    *lines, last = data.split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        row = _object(line)
        if row is None:
            raise UserError(
                f"{path}, line {number} is damaged: no JSON object; delete that line, or restore "
                "the file from a copy"
            )
        rows.append(row)
    whole = _object(last)
    return rows if whole is None else [*rows, whole]


def _mend(file: BinaryIO) -> int:
    """Makes the file end with a whole row; returns its length."""
    end = file.seek(0, os.SEEK_END)
    tail = b""
    start = end
    while start and b"\n" not in tail:
        step = min(start, _BLOCK)
        start = file.seek(start - step)
        tail = file.read(step) + tail
    last = tail.rpartition(b"\n")[2]
    if not last:
        return end
    if _object(last) is not None:  # only the line end is missing
        file.write(b"\n")
        return end + 1
    file.truncate(end - len(last))
    return end - len(last)


def _object(line: bytes) -> Row | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
