"""Rows of JSON and JSON Lines files, plain or gzip-compressed, with the place of every mistake."""

import codecs
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gdpo_jax.errors import UserError

Row = dict[str, Any]

_OTHER_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_GZIP = b"\x1f\x8b"


def read_json_rows(path: Path, *, lines: bool) -> list[Row]:
    """The objects of a JSON Lines file, or of a JSON list; blank lines are passed over.

    Without `lines` the file may still be JSON Lines, which is seen from its first line.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or holds something that is no JSON
            object; names the file and the line or row.
    """
    text = read_text(path)
    if lines or looks_like_lines(text):
        return _rows_of_lines(path, text)
    value = parse_json(text, lambda error: not_json(path, error))
    if not isinstance(value, list):
        raise UserError(
            f"{path} holds one JSON {_kind(value)}, not a list of records; a file with one record "
            "a line ends in .jsonl"
        )
    for number, row in enumerate(value):
        if not isinstance(row, dict):
            raise UserError(f"{path}, row {number}: expected a JSON object, found {_kind(row)}")
    return value


def read_json(path: Path) -> Any:
    """The one JSON value of a file. Raises UserError as `read_json_rows` does."""
    return parse_json(read_text(path), lambda error: not_json(path, error))


def read_text(path: Path) -> str:
    """The UTF-8 text of a file, with or without a byte order mark, decompressed if it is gzip.

    Raises:
        UserError: the file is missing, a folder, damaged, in another encoding or with NUL bytes.
    """
    data = _read_bytes(path)
    for mark, encoding in _OTHER_ENCODINGS:
        if data.startswith(mark):
            raise UserError(f"{path} is {encoding} text; save it as UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        raise UserError(
            f"{path}, line {_line_of(data, data.index(0))} has a NUL byte: the file is damaged, or "
            "not UTF-8 text"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {_line_of(data, error.start)} is not UTF-8 text (byte {error.start}); "
            "save the whole file as UTF-8"
        ) from None


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; give a file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is truncated or no gzip file ({error})") from None


def _line_of(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1


def looks_like_lines(text: str) -> bool:
    """Is the first line an object of its own, with more behind it?"""
    first, _, rest = text.strip().partition("\n")
    if not rest.strip():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _rows_of_lines(path: Path, text: str) -> list[Row]:
    # Split at line feeds alone: a JSON string may hold other line separators unescaped.
    lines = text.rstrip().split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue

        def complain(error: Exception, number: int = number, line: str = line) -> UserError:
            hint = ""
            if line.lstrip().startswith("["):
                hint = "; a list of records belongs in a .json file"
            elif number == len(lines):
                hint = "; it is the last line: the file may have been cut off"
            return UserError(f"{path}, line {number} is not JSON ({what_failed(error)}){hint}")

        row = parse_json(line, complain)
        if not isinstance(row, dict):
            hint = "; a list of records belongs in a .json file" if isinstance(row, list) else ""
            raise UserError(
                f"{path}, line {number}: expected a JSON object, found {_kind(row)}{hint}"
            )
        rows.append(row)
    return rows


def parse_json(text: str, complain: Callable[[Exception], UserError]) -> Any:
    """The JSON value of a text; raises what `complain` makes of an error."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise complain(error) from None


def not_json(path: Path, error: Exception) -> UserError:
    """The error for a file that cannot be parsed as a whole; names the line."""
    line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
    return UserError(f"{path}{line} is truncated or not JSON ({what_failed(error)})")


def what_failed(error: Exception) -> str:
    """What a parser of JSON says of a text, in short."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return str(error)


def _kind(value: Any) -> str:
    return {dict: "object", list: "list", str: "text", type(None): "null"}.get(
        type(value), type(value).__name__
    )


__all__ = [
    "Row",
    "looks_like_lines",
    "not_json",
    "parse_json",
    "read_json",
    "read_json_rows",
    "read_text",
    "what_failed",
]
