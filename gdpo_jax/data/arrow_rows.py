"""Rows of Arrow and Parquet files, by pyarrow alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gdpo_jax.data.json_rows import Row, read_json
from gdpo_jax.errors import UserError


def read_arrow(folder: Path) -> list[Row]:
    """The rows of one data set that Hugging Face's `save_to_disk` wrote, maybe none.

    `state.json` lists the Arrow stream files in order. Values come as pyarrow gives them: numbers,
    text, bytes, lists, dictionaries, dates, and None where one is missing.

    Raises:
        UserError: a folder of several splits (naming them), a missing or damaged file, one outside
            of the folder, or a selection of rows that was not saved.
    """
    state = read_state(folder)
    state_file = folder / "state.json"
    files = state.get("_data_files")
    if not isinstance(files, list):
        raise UserError(f"{state_file}, field '_data_files': expected a list of files")
    if state.get("_indices_files"):
        raise UserError(f"{state_file} selects rows by an index; save the selection flattened")
    return [row for entry in files for row in _stream_rows(_data_file(state_file, entry))]


def read_parquet(path: Path) -> list[Row]:
    """The rows of a Parquet file. Raises UserError where it is missing or damaged."""
    return list(_rows(path, "Parquet file", _parquet_batches))


def read_state(folder: Path) -> Mapping[str, Any]:
    """What `state.json` says of one saved data set; raises UserError where there is none."""
    state_file = folder / "state.json"
    if not state_file.is_file():
        splits = split_names(folder)
        hint = f"; give one of its splits: {', '.join(splits)}" if splits else ""
        raise UserError(f"{folder} is no save_to_disk folder (no state.json){hint}")
    state = read_json(state_file)
    if not isinstance(state, Mapping):
        raise UserError(f"{state_file}, field '_data_files': expected a list of files")
    return state


def split_names(folder: Path) -> list[str]:
    """The saved data sets in a folder of them, by name."""
    return sorted(child.parent.name for child in folder.glob("*/state.json"))


def _data_file(state_file: Path, entry: Any) -> Path:
    name = entry.get("filename") if isinstance(entry, Mapping) else None
    # A name with folders in it could point anywhere on the disk.
    if not isinstance(name, str) or Path(name).name != name:
        raise UserError(
            f"{state_file}, field '_data_files': {repr(entry)[:80]} names no file beside it"
        )
    return state_file.parent / name


def _stream_rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise UserError(f"no file {path}, though state.json lists it")
    return _rows(path, "Arrow stream", _stream_batches)


def _rows(path: Path, kind: str, open_batches: Callable[[Any, Path], Iterable[Any]]) -> Iterator:
    import pyarrow as pa

    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        for batch in open_batches(pa, path):
            batch.validate(full=True)
            names = batch.schema.names
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise UserError(f"{path} has two columns {twice!r}")
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is truncated or no {kind} ({reason})") from None


def _stream_batches(pa: Any, path: Path) -> Iterator[Any]:
    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
        yield from stream


def _parquet_batches(pa: Any, path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        yield from file.iter_batches()


__all__ = ["read_arrow", "read_parquet", "read_state", "split_names"]
