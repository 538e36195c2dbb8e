"""Reading rows from JSON and JSON Lines, with errors that name file, row and the way out."""

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from gdpo_jax.data.json_rows import (
    Row,
    looks_like_lines,
    not_json,
    parse_json,
    read_json,
    read_text,
    what_failed,
)
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside


def read_rows(path: Path, *, any_value: bool = False) -> list[Row]:
    """The rows of a JSON list, of a JSON object with a `samples` list, or of a JSON Lines file.

    Raises `UserError` for a missing, empty, truncated or otherwise unreadable file, and (unless
    `any_value` lets the caller judge) for a row that is no object.
    """
    text = read_text(path)
    if not text.strip():
        raise UserError(f"{path} is empty; expected JSON rows")
    lines = path.suffix in (".jsonl", ".ndjson") or looks_like_lines(text)
    rows = _rows_of_lines(path, text) if lines else _rows_of_document(path, text)
    for number, row in enumerate(rows):
        if not any_value and not isinstance(row, dict):
            raise UserError(f"{path}, row {number}: expected an object, found {type(row).__name__}")
    return rows


def shown(value: Any, length: int = 80) -> str:
    """The start of the value's representation, for messages."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= length else text[: length - 3] + "..."


def read_resource(package: str, name: str) -> Any:
    """The value of a JSON file that lies beside the modules of a package."""
    return json.loads(resources.files(package).joinpath(name).read_text(encoding="utf-8"))


def check_text(value: Any) -> None:
    """`UserError` if a text in the JSON-like value holds half a surrogate pair, which no file can.

    JSON may hold such halves as escapes.
    """
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 20) : error.start + 20]
        raise UserError(f"text {near!r}: half of a surrogate pair is no text") from None


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as JSON Lines: the whole file, or what was there stays.

    Raises `UserError` where it cannot be written.
    """

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    try:
        write_beside(path, write)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _rows_of_lines(path: Path, text: str) -> list[Any]:
    # Split at line feeds alone: a JSON string may hold other line separators unescaped.
    lines = text.split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            last = not any(rest.strip() for rest in lines[number:])

            def complain(error: Exception, number=number, last=last) -> UserError:
                hint = "; the file looks truncated, write it again" if last else ""
                return UserError(f"{path}, line {number} is not JSON ({what_failed(error)}){hint}")

            rows.append(parse_json(line, complain))
    return rows


def _rows_of_document(path: Path, text: str) -> list[Any]:
    value = parse_json(text, lambda error: not_json(path, error))
    if isinstance(value, dict) and isinstance(value.get("samples"), list):
        return value["samples"]
    if isinstance(value, list):
        return value
    # A JSON Lines file of one row under another name.
    if isinstance(value, dict) and not value.keys().isdisjoint(("sample_id", "id", "prompt")):
        return [value]
    found = f"an object with {sorted(value)[:8]}" if isinstance(value, dict) else repr(value)[:60]
    raise UserError(f"{path}: expected a list of rows or an object with 'samples', found {found}")


__all__ = [
    "Row",
    "check_text",
    "read_json",
    "read_resource",
    "read_rows",
    "read_text",
    "shown",
    "write_rows",
]
