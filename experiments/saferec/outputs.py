"""Outputs of any system: which text answers which record.

Rows have `sample_id` (or `id`) with `text` (or `completion`). A row without an id may give the
`prompt` it answers instead; it then serves every record with that prompt.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.saferec.jsonfiles import Row
from experiments.saferec.metrics import prompt_text
from gdpo_jax.errors import UserError

ID_FIELDS = ("sample_id", "id")
TEXT_FIELDS = ("text", "completion")


def join_outputs(
    rows: Sequence[Row],
    records: Sequence[Mapping[str, Any]],
    *,
    source: str = "outputs",
    partial: bool = False,
) -> list[str | None]:
    """The text for every record, None where `partial` allows that there is none."""
    if not rows:
        raise UserError(f"{source} holds no rows")
    by_id = any(field in rows[0] for field in ID_FIELDS)
    if by_id:
        keys = [str(record["sample_id"]) for record in records]
    else:
        keys = [prompt_text(record) for record in records]
    texts: dict[str, str] = {}
    first: dict[str, int] = {}
    for number, row in enumerate(rows):
        key = _output_key(row, number, source, by_id=by_id)
        if key in texts:
            raise UserError(
                f"{source}, row {number}: a second output for {_shown(key)}, the first is row "
                f"{first[key]}; keep one output per conversation"
            )
        texts[key], first[key] = output_text(row, f"{source}, row {number}"), number
    wanted = set(keys)
    strange = [key for key in texts if key not in wanted]
    missing = [key for key in keys if key not in texts]
    if len(strange) == len(texts):
        raise UserError(
            f"{source}: none of {len(texts)} outputs matches a record. Outputs start with "
            f"{_shown(strange[0])}, records with {_shown(keys[0])}; "
            "give the records these outputs were made for"
        )
    if strange and not partial:
        raise UserError(
            f"{source}, row {first[strange[0]]}: no record {_shown(strange[0])} "
            f"({len(strange)} such rows); score the ones that match with --partial"
        )
    if missing and not partial:
        raise UserError(
            f"{source}: no output for {len(missing)} of {len(keys)} records, the first is "
            f"{_shown(missing[0])}; score the ones that match with --partial"
        )
    return [texts.get(key) for key in keys]


def write_outputs(path: Path, records: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> None:
    """Writes one row for each record and its answer, as `join_outputs` reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        json.dumps({"sample_id": record["sample_id"], "text": text}) + "\n"
        for record, text in zip(records, texts, strict=True)
    ]
    path.write_text("".join(rows), encoding="utf-8")


def output_text(row: Mapping[str, Any], where: str) -> str:
    """The answer in a row: a string, or a list of chat messages whose last one holds it."""
    field = next((field for field in TEXT_FIELDS if field in row), None)
    if field is None:
        raise UserError(
            f"{where}: no field {' or '.join(map(repr, TEXT_FIELDS))}; it has {sorted(row)}"
        )
    value = row[field]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        content = value[-1].get("content")
        if isinstance(content, str):
            return content
    raise UserError(f"{where}, field {field!r}: expected text, found {json.dumps(value)[:60]}")


def _output_key(row: Row, number: int, source: str, *, by_id: bool) -> str:
    if by_id:
        field = next((field for field in ID_FIELDS if field in row), None)
        if field is None or not isinstance(row[field], (str, int)):
            raise UserError(f"{source}, row {number}: no {' or '.join(ID_FIELDS)}")
        return str(row[field])
    key = prompt_text(row)
    if not key:
        raise UserError(
            f"{source}, row {number}: neither {' nor '.join(ID_FIELDS)} nor prompt; "
            "one of them says which conversation it answers"
        )
    return key


def _shown(key: str) -> str:
    short = key if len(key) <= 60 else key[:57] + "..."
    return repr(short)


__all__ = ["ID_FIELDS", "TEXT_FIELDS", "join_outputs", "output_text", "write_outputs"]
