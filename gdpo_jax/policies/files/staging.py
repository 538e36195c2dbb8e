"""Folders whose files change together: written beside, and then moved into place by renaming."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from gdpo_jax.errors import UserError

STAGING = ".saving.part"


@contextlib.contextmanager
def staged(directory: Path, *, last: str, stale: Callable[[str], bool]) -> Iterator[Path]:
    """A folder to write into, whose files replace those of `directory` when the block ends.

    last: the file without which nobody opens the folder. It is taken away first and comes last, so
    that a process that is killed leaves the old files, or a folder that is refused, and never a
    mixture. stale: the names of files of an older save, which are removed; no other file is.

    With several processes the first one creates, moves and removes. Raises UserError where
    `directory` is a file.
    """
    staging = directory / STAGING
    if jax.process_index() != 0:
        yield staging
        return
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; give a folder to save to")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    (directory / last).unlink(missing_ok=True)
    for path in list(directory.iterdir()):
        if stale(path.name) and (path.is_file() or path.is_symlink()):
            path.unlink()
    for path in sorted(staging.iterdir(), key=lambda path: path.name == last):
        os.replace(path, directory / path.name)
    staging.rmdir()


def check_not_interrupted(directory: Path, last: str) -> None:
    """Raises UserError where a save was killed while it moved its files into place."""
    if (directory / STAGING).is_dir() and not (directory / last).is_file():
        raise UserError(
            f"{directory} has no {last}: saving to it was interrupted; save again, or move the "
            f"files of {directory / STAGING} into it, {last} last"
        )


__all__ = ["STAGING", "check_not_interrupted", "staged"]
