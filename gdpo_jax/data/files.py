"""Records from files: JSON, JSON Lines, Parquet, and data sets that `save_to_disk` wrote."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gdpo_jax.data.arrow_rows import read_arrow, read_parquet, read_state, split_names
from gdpo_jax.data.json_rows import Row, read_json, read_json_rows
from gdpo_jax.errors import UserError

_READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": lambda path: read_json_rows(path, lines=True),
    ".ndjson": lambda path: read_json_rows(path, lines=True),
    ".json": lambda path: read_json_rows(path, lines=False),
    ".parquet": read_parquet,
}


def read_records(path: str | os.PathLike[str], *, split: str | None = None) -> list[Row]:
    """All records of a file or folder, as dictionaries in memory.

    By the name of the file: `.jsonl` and `.ndjson` (an object a line), `.json` (a list of objects,
    or an object a line), each also compressed (`.gz`), and `.parquet`. A folder is one that Hugging
    Face's `save_to_disk` wrote; if it holds several splits, `split` names one.

    Raises:
        UserError: a missing, empty or damaged file, one of another kind, a line or row that is no
            JSON object, or no such split; names the file, the line or row, and the splits.
    """
    path = Path(path)
    try:
        rows = _rows_of(path, split)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if not rows:
        raise UserError(f"{path} holds no records")
    return rows


def require_fields(
    records: Sequence[Mapping[str, Any]], fields: Iterable[str], path: str | os.PathLike[str]
) -> None:
    """Raises UserError for the first record in which a field is missing or None; the message names
    `path`, the row (counted from 0), the field, and those that the record has.
    """
    fields = (fields,) if isinstance(fields, str) else tuple(fields)
    for number, record in enumerate(records):
        for field in fields:
            if record.get(field) is None:
                state = "None" if field in record else "missing"
                raise UserError(
                    f"{path}, row {number}: field {field!r} is {state}; the row has "
                    f"{sorted(map(str, record))}"
                )


def _rows_of(path: Path, split: str | None) -> list[Row]:
    if path.is_dir():
        return read_arrow(_split_folder(path, split))
    if not path.exists():
        raise UserError(f"there is no file or folder {path}")
    if split is not None:
        raise UserError(f"{path} is one file without splits; leave out split={split!r}")
    return _reader_of(path)(path)


def _reader_of(path: Path) -> Callable[[Path], list[Row]]:
    name = path.name.lower()
    for ending, reader in _READERS.items():
        if name.endswith((ending, f"{ending}.gz")):
            return reader
    raise UserError(
        f"{path} is of no kind that is read: use {', '.join(_READERS)}, or a folder that "
        "save_to_disk wrote"
    )


def _split_folder(folder: Path, split: str | None) -> Path:
    if (folder / "state.json").is_file():
        own = read_state(folder).get("_split")
        if split not in (None, own):
            raise UserError(f"{folder} is the one split {own!r}; it has no split {split!r}")
        return folder
    splits = split_names(folder)
    if not splits:
        raise UserError(
            f"{folder} is no save_to_disk folder (no state.json, and no folders of splits); give "
            "one of the files in it"
        )
    _check_all_there(folder, splits)
    if split is None and len(splits) == 1:
        return folder / splits[0]
    if split not in splits:
        asked = "has several splits" if split is None else f"has no split {split!r}"
        raise UserError(f"{folder} {asked}; give split= one of {', '.join(splits)}")
    return folder / split


def _check_all_there(folder: Path, splits: Sequence[str]) -> None:
    """A folder that lost a split must not be read as one with a single split."""
    listing = folder / "dataset_dict.json"
    if not listing.is_file():
        return
    listed = read_json(listing)
    listed = listed.get("splits") if isinstance(listed, Mapping) else None
    if not isinstance(listed, list):
        raise UserError(f"{listing}, field 'splits': expected a list of names")
    lost = [name for name in listed if name not in splits]
    if lost:
        raise UserError(f"{listing} lists the split {lost[0]!r}, of which {folder} has no folder")


__all__ = ["read_records", "require_fields"]
