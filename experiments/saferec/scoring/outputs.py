"""Outputs of any system: which text answers which record.

Rows have `sample_id` (or `id`) with `text` (or `completion`). A row without an id, or with one that
no record has, may give the `prompt` it answers instead, white space aside; it then serves every
record with that prompt.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import Row
from experiments.saferec.lists.records import output_text
from experiments.saferec.metrics import prompt_text
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside

ID_FIELDS = ("sample_id", "id")


def join_outputs(
    rows: Sequence[Row],
    records: Sequence[Mapping[str, Any]],
    *,
    source: str = "outputs",
    partial: bool = False,
) -> list[str | None]:
    """The text for every record, None where `partial` allows that there is none.

    Raises UserError that names row and field for a row without key or text, a second output for a
    conversation, and (unless `partial`) a row or a record without partner.
    """
    if not rows:
        raise UserError(f"{source} holds no rows")
    places: dict[str, list[int]] = {}  # id -> its record
    contexts: dict[str, list[int]] = {}  # prompt -> all its records
    for place, record in enumerate(records):
        places[str(record["sample_id"])] = [place]
        if prompt := _prompt(record):
            contexts.setdefault(prompt, []).append(place)
    texts: list[str | None] = [None] * len(records)
    answered: dict[int, int] = {}  # record -> row
    strange: list[int] = []
    for number, row in enumerate(rows):
        where = f"{source}, row {number}"
        text = output_text(row, where)
        targets = _targets(row, where, places, contexts)
        strange += [] if targets else [number]
        for place in targets:
            if place in answered:
                raise UserError(
                    f"{where}: a second output for {_shown(str(records[place]['sample_id']))}, the "
                    f"first is row {answered[place]}; keep one output per conversation"
                )
            texts[place], answered[place] = text, number
    if not answered:
        raise UserError(
            f"{source}: none of {len(rows)} outputs matches a record. Outputs start with "
            f"{_name(rows[0])}, records with {_name(records[0])}; "
            "give the records these outputs were made for"
        )
    if strange and not partial:
        raise UserError(
            f"{source}, row {strange[0]}: no record {_name(rows[strange[0]])} "
            f"({len(strange)} such rows); score the ones that match with --partial"
        )
    missing = [place for place in range(len(records)) if place not in answered]
    if missing and not partial:
        raise UserError(
            f"{source}: no output for {len(missing)} of {len(records)} records, the first is "
            f"{_name(records[missing[0]])}; score the ones that match with --partial"
        )
    return texts


def write_outputs(path: Path, records: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> None:
    """Writes one row for each record and its answer, as `join_outputs` reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        json.dumps({"sample_id": record["sample_id"], "text": text}) + "\n"
        for record, text in zip(records, texts, strict=True)
    ]
    write_beside(path, "".join(rows))


def _targets(
    row: Row,
    where: str,
    places: Mapping[str, list[int]],
    contexts: Mapping[str, list[int]],
) -> list[int]:
    """The records that the row answers; empty if its id and prompt are unknown."""
    _check_prompt(row, where)
    name, prompt = _id(row, where), _prompt(row)
    if name is None and not prompt:
        raise UserError(
            f"{where}: neither {' nor '.join(ID_FIELDS)} nor prompt; "
            "one of them says which conversation it answers"
        )
    by_prompt = contexts.get(prompt, [])
    if name not in places:
        return by_prompt
    # Positions serve as ids where a file has none: a row of another file may have the same one.
    if by_prompt and places[name][0] not in by_prompt:
        raise UserError(
            f"{where}, field 'prompt': it is not that of record {_shown(name)} but of another one; "
            "leave out the id, or give the records these outputs were made for"
        )
    return places[name]


def _check_prompt(row: Row, where: str) -> None:
    prompt = row.get("prompt")
    if prompt is None or isinstance(prompt, str):
        return
    if not isinstance(prompt, list) or not all(isinstance(part, Mapping) for part in prompt):
        raise UserError(
            f"{where}, field 'prompt': expected text or chat messages, found "
            f"{json.dumps(prompt)[:60]}"
        )


def _id(row: Row, where: str) -> str | None:
    field = next((field for field in ID_FIELDS if field in row), None)
    if field is None:
        return None
    if isinstance(row[field], bool) or not isinstance(row[field], (str, int)):
        raise UserError(
            f"{where}, field {field!r}: expected text or a whole number, found "
            f"{json.dumps(row[field])[:60]}"
        )
    return str(row[field])


def _prompt(row: Mapping[str, Any]) -> str:
    return " ".join(prompt_text(row).split())


def _name(row: Mapping[str, Any]) -> str:
    """What a message calls a row or record by."""
    field = next((field for field in ID_FIELDS if field in row), None)
    return _shown(_prompt(row) if field is None else str(row[field]))


def _shown(key: str) -> str:
    short = key if len(key) <= 60 else key[:57] + "..."
    return repr(short)


__all__ = ["ID_FIELDS", "join_outputs", "write_outputs"]
