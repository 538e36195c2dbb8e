"""Data sets on disk as TFDS writes them in array_record: written, found and read, TensorFlow not.

A data set is a folder of configs; rows with a field `position` come in its order.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from gdpo_jax.errors import UserError

__all__ = ["find_config", "open_builder", "read_config", "to_text", "to_texts", "write_configs"]


def write_configs(
    builder: Callable[..., tfds.core.DatasetBuilder],
    data_dir: Path,
    configs: Mapping[str, Mapping[str, Sequence[Any]]],
    *,
    finish: Callable[[Path], None],
) -> Path:
    """Writes a data set into `data_dir`, whole or not at all; returns its folder.

    builder: a builder class that takes `rows` by split. configs: these rows by config; a config
    without splits is left out. finish: writes what else belongs into the folder, before it has its
    name. `data_dir` is left as it was where anything fails.
    """
    target = data_dir / builder.name
    created = not data_dir.exists()
    data_dir.mkdir(parents=True, exist_ok=True)
    tfds.disable_progress_bar()
    try:
        with tempfile.TemporaryDirectory(dir=data_dir, prefix=".building-") as folder:
            for config, rows in configs.items():
                if not rows:
                    continue
                options = {"data_dir": folder, "file_format": "array_record"}
                made = builder(config=config, rows=rows, **options)
                # TFDS would announce a folder that is about to move.
                with contextlib.redirect_stdout(io.StringIO()):
                    made.download_and_prepare()
            built = Path(folder) / builder.name
            finish(built)
            built.rename(target)
    except BaseException:
        if created:
            with contextlib.suppress(OSError):  # not empty: somebody else writes there
                data_dir.rmdir()
        raise
    return target


def find_config(data_dir: Path, config: str) -> Path | None:
    """The folder of a config in a data set, whichever builder wrote it.

    Raises UserError if there are two.
    """
    found = sorted(
        info.parent
        for info in data_dir.glob(f"*/{config}/*/dataset_info.json")
        if not info.relative_to(data_dir).parts[0].startswith(".")
    )
    if len(found) > 1:
        raise UserError(
            f"{data_dir} has {config} twice, in {found[0]} and {found[1]}; keep one of them"
        )
    return found[0] if found else None


def open_builder(folder: Path, *, rebuild: str) -> tfds.core.DatasetBuilder:
    """The builder of a config on disk.

    rebuild: how to make the data set anew, for the message. Raises UserError where its description
    is damaged.
    """
    try:
        builder = tfds.builder_from_directory(str(folder))
        _ = builder.info.splits  # read at first use
        return builder
    # What TFDS raises depends on the place of the damage: JSON, protocol buffers, features.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{folder}: damaged description ({reason}); {_hint(folder, rebuild)}"
        ) from error


def _hint(folder: Path, rebuild: str) -> str:
    return f"delete {folder.parents[1]} and {rebuild}"


def read_config(folder: Path, split: str, *, rebuild: str) -> list[Mapping[str, Any]]:
    """The rows of a split of a config in stored order; `rebuild` as in `open_builder`.

    Raises UserError for an unknown split, and for a folder that is damaged or truncated.
    """
    builder, hint = open_builder(folder, rebuild=rebuild), _hint(folder, rebuild)
    try:
        if split not in builder.info.splits:
            raise UserError(
                f"{folder} has no split {split!r}; it has {sorted(builder.info.splits)}"
            )
        source = builder.as_data_source(split)
        # All of them at once: one by one they take many times as long.
        rows = list(source.__getitems__(range(len(source)))) if len(source) else []
        expected = builder.info.splits[split].num_examples
    except UserError:
        raise
    # Readers of a damaged array_record raise whatever their C++ side chose; all mean the same here.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{folder}, split {split!r}: damaged or truncated ({reason}); {hint}"
        ) from error
    if len(rows) != expected:
        raise UserError(f"{folder}, split {split!r}: {len(rows)} of {expected} records; {hint}")
    if rows and "position" in rows[0]:
        rows.sort(key=lambda row: int(row["position"]))
    return rows


def to_text(value: bytes | str) -> str:
    """A text feature as read."""
    return value.decode() if isinstance(value, bytes) else str(value)


def to_texts(values: Sequence[bytes | str]) -> tuple[str, ...]:
    """A sequence of texts as read."""
    return tuple(to_text(value) for value in values)
