"""Rows of sheets: csv by the standard library, xlsx by openpyxl (extra `sheets`)."""

import csv
import io
import itertools
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import Row, read_text
from gdpo_jax.errors import UserError

__all__ = ["read_sheet", "sheet_rows"]

_LONGEST_FIELD = 1 << 24  # characters of a csv field; the module's own limit is 131,072


def read_sheet(path: Path, *, columns: Sequence[str] = ()) -> list[Row]:
    """The rows below the header of a csv or xlsx file, by the header's names.

    A name is stripped and must not be given twice; cells without a name are left out. columns:
    names that must be there. Raises `UserError` as `sheet_rows`, and for a header without them.
    """
    rows = sheet_rows(path)
    if not rows:
        raise UserError(f"{path} has no rows; its first row should name the columns")
    names = ["" if cell is None else str(cell).strip() for cell in rows[0]]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UserError(f"{path} has the column {twice[0]!r} twice; rename one of them")
    missing = [name for name in columns if name not in names]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r}; it has {[n for n in names if n]}")
    return [{name: cell for name, cell in zip(names, row, strict=True) if name} for row in rows[1:]]


def sheet_rows(path: Path) -> list[tuple[Any, ...]]:
    """All rows of a csv file, or of the first sheet of an xlsx file, that have any value.

    Rows are as wide as the last column with a value. Cells are None where they are empty; else text
    for csv, and for xlsx whatever the sheet holds (text, numbers, dates; of formulas the stored
    result). Sheets are often padded with empty rows, which are left out.

    Raises `UserError` for a missing or damaged file, another ending, and xlsx without openpyxl.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        rows = _kept(_csv_rows(path))
    elif suffix == ".xlsx":
        rows = _xlsx_rows(path)
    else:
        raise UserError(f"{path}: give a .csv or .xlsx file")
    width = max((len(row) for row in rows), default=0)
    return [row + (None,) * (width - len(row)) for row in rows]


def _kept(rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """The rows with a value, each cut behind its last one."""
    kept = []
    for row in rows:
        cells = [None if isinstance(c, str) and not c.strip() else c for c in row]
        empty = itertools.takewhile(lambda cell: cell is None, reversed(cells))
        if width := len(cells) - sum(1 for _ in empty):
            kept.append(tuple(cells[:width]))
    return kept


def _csv_rows(path: Path) -> Iterator[list[str]]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not csv ({error})") from None
    finally:
        csv.field_size_limit(before)


def _xlsx_rows(path: Path) -> list[tuple[Any, ...]]:
    try:
        import openpyxl
    except ImportError:
        raise UserError(
            f"{path}: xlsx files need openpyxl; pip install 'gdpo-jax[sheets]', or save the sheet "
            "as csv"
        ) from None
    if not path.is_file():
        raise UserError(f"no file {path}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is damaged, or no xlsx file; restore it from a copy")
    try:
        # Given a path, openpyxl leaves the file open where it cannot read it.
        with path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what the file says of its size is often wrong
            return _kept(sheet.iter_rows(values_only=True))
    # Zip, XML and cell readers each raise their own; all of it means the same here.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} is damaged, or no xlsx file ({reason}); restore it from a copy"
        ) from error
