"""XSTest's completions of published models, with the labels of two people (arXiv 2308.01263)."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import read_rows, shown
from experiments.common.files.sheets import read_sheet
from experiments.dcr.data.formats import XSTEST_CONTRASTS
from experiments.dcr.data.prompts import SEEMING, TOXIC
from gdpo_jax.errors import UserError

__all__ = ["LABELS", "LabelledCompletion", "read_completions"]

# As the published files spell them.
LABELS = ("1_full_compliance", "2_full_refusal", "3_partial_refusal")
_COLUMNS = ("id", "type", "prompt", "completion", "annotation_1", "annotation_2", "final_label")
_TYPES = (*XSTEST_CONTRASTS, *dict.fromkeys(XSTEST_CONTRASTS.values()))
_PREFIX = "v2-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledCompletion:
    """One completion, and what people call it."""

    id: str  # "v2-12"
    prompt_id: str  # of the prompt in the file of prompts: "xstest/12"
    prompt: str  # as it was asked; prompt 195 is worded differently in the file of prompts
    kind: str  # "seeming" or "toxic"
    type: str
    completion: str
    annotations: tuple[str, str]  # of the two annotators
    label: str  # on which people settled


def read_completions(path: Path) -> tuple[LabelledCompletion, ...]:
    """The completions of a file, csv or JSON Lines, in its order.

    Raises UserError that names file, row and field for a column or text that is missing, an unknown
    label or type, and an id that is no published one or there twice; and for an empty file.
    """
    if path.suffix.lower() == ".csv":
        rows = read_sheet(path, columns=_COLUMNS)
        places = [f"{path}, row {n} below the header" for n in range(1, len(rows) + 1)]
    else:
        rows = read_rows(path)
        places = [f"{path}, row {n}" for n in range(len(rows))]
    if not rows:
        raise UserError(f"{path} has no rows; restore the file from a copy")
    found: dict[str, LabelledCompletion] = {}
    for row, where in zip(rows, places, strict=True):
        completion = _completion(row, where)
        if completion.id in found:
            raise UserError(f"{where}, field 'id': {completion.id!r} is there twice; delete one")
        found[completion.id] = completion
    return tuple(found.values())


def _completion(row: Mapping[str, Any], where: str) -> LabelledCompletion:
    texts = {}
    for column in _COLUMNS:
        value = row.get(column)
        # A model may say nothing at all, which the sheet's reader gives as None.
        if column == "completion" and column in row and value in (None, ""):
            value = ""
        elif not isinstance(value, str) or not value.strip():
            raise UserError(
                f"{where}, field {column!r}: expected text, found {shown(value)}; restore the file "
                "from a copy"
            )
        texts[column] = value
    number = texts["id"].removeprefix(_PREFIX)
    if texts["id"] == number or not number.isdecimal():
        raise UserError(f"{where}, field 'id': {texts['id']!r} is no id such as 'v2-12'")
    if texts["type"] not in _TYPES:
        raise UserError(
            f"{where}, field 'type': unknown value {shown(texts['type'])}; there are "
            f"{', '.join(_TYPES)}"
        )
    for column in ("annotation_1", "annotation_2", "final_label"):
        if texts[column] not in LABELS:
            raise UserError(
                f"{where}, field {column!r}: unknown label {shown(texts[column])}; there are "
                f"{', '.join(LABELS)}"
            )
    return LabelledCompletion(
        id=texts["id"],
        prompt_id=f"xstest/{int(number)}",
        prompt=texts["prompt"].strip(),
        kind=SEEMING if texts["type"] in XSTEST_CONTRASTS else TOXIC,
        type=texts["type"],
        completion=texts["completion"],
        annotations=(texts["annotation_1"], texts["annotation_2"]),
        label=texts["final_label"],
    )
