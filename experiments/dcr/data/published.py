"""Prompts of published sets, from files that the user gives.

A set is read by the table of formats, as csv, JSON, JSON Lines or text with a prompt a line: by the
file's ending, whatever it was published as. Dialogues of HH-RLHF have a module of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import read_json, read_rows, read_text, shown
from experiments.common.files.sheets import read_sheet
from experiments.dcr.data.dialogues import FILES, read_dialogues
from experiments.dcr.data.formats import FORMATS, XSTEST_CONTRASTS, Format
from experiments.dcr.data.normalized import first_alike
from experiments.dcr.data.prompts import TOXIC, SafetyPrompt
from gdpo_jax.errors import UserError

__all__ = ["SETS", "find_sets", "read_set"]

SETS = (*FORMATS, *FILES)
_RESTORE = "restore the file from a copy"


def find_sets(folder: Path) -> dict[str, Path]:
    """The published files anywhere below a folder, by the name of their set.

    Raises UserError for a folder that is missing or has none of them, and where a set is there
    twice.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; give the one with the published files")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {name: form.files for name, form in FORMATS.items()} | FILES
    found: dict[str, Path] = {}
    for name, files in names.items():
        for path in paths:
            if not path.as_posix().endswith(tuple(f"/{file}" for file in files)):
                continue
            if name in found:
                raise UserError(f"{name} is there twice, {found[name]} and {path}; move one away")
            found[name] = path
    if not found:
        some = ", ".join(files[0] for files in names.values())
        raise UserError(f"no published file in {folder}; known are {some}")
    return found


def read_set(name: str, path: Path) -> tuple[SafetyPrompt, ...]:
    """The prompts of a set in the file's order; `docs/dcr_data.md` says what becomes what.

    Raises UserError that names file, row and field for a column or text that is missing, an unknown
    label or type, and an id that is there twice; and for an empty file and an unknown set.
    """
    if name not in SETS:
        raise UserError(f"no set {name!r}; there are {', '.join(SETS)}")
    if name in FILES:
        return read_dialogues(path, name)
    form = FORMATS[name]
    prompts, places = [], {}
    for where, row, number in _rows(path, form):
        prompt = _prompt(name, form, where, row, number)
        if prompt.id in places:
            raise UserError(
                f"{where}, field {form.id!r}: {row[form.id]!r} is the id of {places[prompt.id]}; "
                f"{_RESTORE}"
            )
        places[prompt.id] = where.removeprefix(f"{path}, ")
        prompts.append(prompt)
    if not prompts:
        raise UserError(f"{path} has no rows; {_RESTORE}")
    return first_alike(prompts)


def _rows(path: Path, form: Format) -> Iterator[tuple[str, Mapping[str, Any], int]]:
    """Place, fields and number of each row, in which every column that is read has an entry."""
    columns = [*form.text, *filter(None, (form.label, form.type, form.id, form.answer))]
    columns += filter(None, (form.rejected, form.cluster))
    if path.suffix.lower() == ".csv":
        for number, row in enumerate(read_sheet(path, columns=columns)):
            yield f"{path}, row {number + 1} below the header", row, number
        return
    if path.suffix.lower() == ".txt":
        lines = [line for line in read_text(path).splitlines() if line.strip()]
        for number, line in enumerate(lines):
            yield f"{path}, line {number + 1}", {form.text[0]: line}, number
        return
    rows = _of_lists(path, columns) if form.lists else read_rows(path)
    for number, row in enumerate(rows):
        where = f"{path}, row {number}"
        for column in columns:
            # The second text column is often left out where it is empty.
            if column not in row and column not in form.text[1:]:
                raise UserError(
                    f"{where} has no field {column!r}; it has {sorted(map(str, row))}; give the "
                    "file as it was published"
                )
        yield where, row, number


def _of_lists(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of one object with a list for each column."""
    value = read_json(path)
    lists = []
    for column in columns:
        entry = value.get(column) if isinstance(value, Mapping) else None
        if not isinstance(entry, list):
            raise UserError(f"{path}: expected an object with a list {column!r}, {shown(value)}")
        lists.append(entry)
    if len({len(entry) for entry in lists}) > 1:
        sizes = ", ".join(f"{c} {len(e)}" for c, e in zip(columns, lists, strict=True))
        raise UserError(f"{path}: lists of different lengths ({sizes}); {_RESTORE}")
    return [dict(zip(columns, entries, strict=True)) for entries in zip(*lists, strict=True)]


def _prompt(
    name: str, form: Format, where: str, row: Mapping[str, Any], number: int
) -> SafetyPrompt:
    parts = [_text(row, column, where, empty=n > 0) for n, column in enumerate(form.text)]
    text = "\n\n".join(filter(None, parts))
    if form.end and text.endswith(form.end):
        text = text.removesuffix(form.end) + "."
    kind = form.kind or form.kinds[_one_of(row, form.label, tuple(form.kinds), where)]
    type_ = _one_of(row, form.type, form.types, where) if form.type else name
    if name == "xstest" and (type_ in XSTEST_CONTRASTS.values()) != (kind == TOXIC):
        raise UserError(f"{where}: type {type_!r} has the label {row[form.label]!r}; {_RESTORE}")
    id_ = f"{name}/{_id(row, form.id, where) if form.id else number}"
    cluster = _text(row, form.cluster, where, empty=True) if form.cluster else ""
    return SafetyPrompt(
        id=id_,
        text=text,
        kind=kind,
        type=type_,
        source=name,
        cluster=f"{name}/{cluster}" if cluster else id_,
        answer=_text(row, form.answer, where, empty=True) if form.answer else "",
        rejected=_text(row, form.rejected, where, empty=True) if form.rejected else "",
    )


def _text(row: Mapping[str, Any], column: str, where: str, *, empty: bool = False) -> str:
    value = row.get(column)
    if empty and value is None:
        return ""
    if not isinstance(value, str) or not (empty or value.strip()):
        raise UserError(
            f"{where}, field {column!r}: expected text, found {shown(value)}; {_RESTORE}"
        )
    return value.strip()


def _one_of(row: Mapping[str, Any], column: str, known: Sequence[str], where: str) -> str:
    value = _text(row, column, where)
    if known and value not in known:
        raise UserError(
            f"{where}, field {column!r}: unknown value {shown(value)}; there are {', '.join(known)}"
        )
    return value


def _id(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise UserError(f"{where}, field {column!r}: expected an id, found {shown(value)}")
    return str(value).strip()
