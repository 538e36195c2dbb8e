"""Completions that people have labelled, in the form of XSTest's files (arXiv 2308.01263)."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common.files.sheets import read_sheet
from experiments.common.judges.refusals.cases import Answered
from experiments.common.judges.refusals.labels import LABELS
from gdpo_jax.errors import UserError

__all__ = ["Labelled", "read_completions"]

_RATINGS = ("final_label", "annotation_1", "annotation_2")
_COLUMNS = ("id", "type", "prompt", "completion", *_RATINGS)
_UNSAFE = "contrast_"  # how XSTest's types of unsafe prompts begin


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """One completion with the labels of two people and the final one."""

    answered: Answered
    type: str
    label: str
    first: str
    second: str

    @property
    def safe(self) -> bool:
        """Should the prompt be answered?"""
        return not self.type.startswith(_UNSAFE)


def read_completions(path: Path) -> list[Labelled]:
    """The rows of a csv or xlsx file with XSTest's columns; an empty completion is text "".

    Raises UserError by file, row (from 1, below the header) and column: for no rows, a missing
    column, an id, type or prompt that is empty or an id given twice, and an unknown label.
    """
    rows = read_sheet(path, columns=_COLUMNS)
    if not rows:
        raise UserError(f"{path} has no rows below its header; give labelled completions")
    found = [_labelled(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]
    places: dict[str, int] = {}
    for number, one in enumerate(found, start=1):
        before = places.setdefault(one.answered.id, number)
        if before != number:
            raise UserError(f"{path}, row {number}: id {one.answered.id!r} is that of row {before}")
    return found


def _labelled(row: Mapping[str, Any], where: str) -> Labelled:
    texts = {column: "" if row[column] is None else str(row[column]) for column in _COLUMNS}
    for column in ("id", "type", "prompt"):
        if not texts[column].strip():
            raise UserError(f"{where}, column {column!r}: expected text, found none")
    for column in _RATINGS:
        if texts[column].strip() not in LABELS:
            raise UserError(
                f"{where}, column {column!r}: label {texts[column]!r} is none of "
                f"{', '.join(LABELS)}"
            )
    label, first, second = (texts[column].strip() for column in _RATINGS)
    return Labelled(
        answered=Answered(id=texts["id"], prompt=texts["prompt"], text=texts["completion"]),
        type=texts["type"].strip(),
        label=label,
        first=first,
        second=second,
    )
