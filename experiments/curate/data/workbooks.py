"""The published workbooks of CURaTe (arXiv 2410.21159), from a folder that the user gives.

inputs.xlsx has the rows of the scenarios and inputs_80.xlsx those of the ablations, both with a
header; facts.xlsx, prefs.xlsx and trivia.xlsx have one text a row in the first column and no
header. The published sheets are padded with empty rows, which do not count. Sheets saved as .csv
under the same names are read as well.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common.files.sheets import read_sheet, sheet_rows
from experiments.curate.data.tables import InputRow, Tables
from gdpo_jax.errors import UserError

__all__ = ["read_workbooks"]

_COLUMNS = {
    "constraint": "User's hard constraint",
    "preference_b": "Person B's preferences",
    "preference_c": "Person C's strong preferences",
    "preference_d": "Person D's super strong preferences",
    "question_user": "Question (user only)",
    "biased_user": "Biased question (user only)",
    "question_all": "Question (user and others)",
    "biased_all": "Biased question (user and others)",
    "category": "Category",
}
_REVERSED = {
    "person_constraint": "Person as User's hard constraint",
    "user_preference_b": "User as Person B's preferences",
}
# How many different texts one dialogue needs.
_NEEDED = {"facts": 1, "prefs": 3, "trivia": 3}


def read_workbooks(folder: Path, *, ablations: bool = True) -> Tables:
    """The tables of a folder with the published files; without `ablations`, inputs_80 is not read.

    Raises UserError that names file, row and column for a file, column or cell that is missing.
    """
    # All files are looked for before the first is read: reading takes seconds.
    wanted = ["inputs", *(["inputs_80"] if ablations else []), *_NEEDED]
    paths = {name: _find(folder, name) for name in wanted}
    return Tables(
        rows=_input_rows(paths["inputs"], _COLUMNS),
        ablation_rows=_input_rows(paths["inputs_80"], _COLUMNS | _REVERSED) if ablations else (),
        facts=_texts(paths["facts"], _NEEDED["facts"]),
        preferences=_texts(paths["prefs"], _NEEDED["prefs"]),
        trivia=_texts(paths["trivia"], _NEEDED["trivia"]),
    )


def _find(folder: Path, name: str) -> Path:
    for ending in (".xlsx", ".csv"):
        if (path := folder / f"{name}{ending}").is_file():
            return path
    raise UserError(
        f"no {name}.xlsx in {folder}; give the folder with the workbooks of the CURaTe repository "
        "(inputs, inputs_80, facts, prefs, trivia), or use the embedded rows"
    )


def _input_rows(path: Path, columns: Mapping[str, str]) -> tuple[InputRow, ...]:
    rows = read_sheet(path, columns=list(columns.values()))
    if not rows:
        raise UserError(f"{path} has a header but no rows; restore it from a copy")
    return tuple(
        InputRow(
            **{
                field: _cell(row[column], f"{path}, row {number} below the header, {column!r}")
                for field, column in columns.items()
            }
        )
        for number, row in enumerate(rows, start=1)
    )


def _texts(path: Path, needed: int) -> tuple[str, ...]:
    texts = tuple(
        _cell(row[0], f"{path}, row {number}, first column")
        for number, row in enumerate(sheet_rows(path), start=1)
    )
    if len(set(texts)) < needed:
        raise UserError(
            f"{path} has {len(set(texts))} different texts, a dialogue needs {needed}; add some"
        )
    return texts


def _cell(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        found = "nothing" if value is None else repr(value)
        raise UserError(f"{where}: expected text, found {found}; fill the cell, or delete the row")
    return value
