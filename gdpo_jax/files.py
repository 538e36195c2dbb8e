"""Files that are written whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["is_full", "is_refused", "write_beside"]


def write_beside(path: str | Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write `content` to `path.partial` in the same folder, and give it its name when complete.

    `content`: a text (UTF-8), bytes, or a function that writes the file whose path it is given. If
    the process is stopped or the writing fails, `path` stays as it was; what was written beside it
    is removed, or replaced by the next writing.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        if callable(content):
            content(partial)
        else:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
        # The name must not reach the disk before the bytes do.
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def is_full(error: BaseException | None) -> bool:
    """Whether `error`, or one that it comes from, says that a disk or a quota is full."""
    return _says(error, errno.ENOSPC, errno.EDQUOT)


def is_refused(error: BaseException | None) -> bool:
    """Whether `error`, or one that it comes from, says that a disk is read-only or that this user
    may not write or read there."""
    return _says(error, errno.EROFS, errno.EACCES)


def _says(error: BaseException | None, *numbers: int) -> bool:
    texts = [os.strerror(number) for number in numbers]
    while error is not None:
        if isinstance(error, OSError) and error.errno in numbers:
            return True
        # Orbax and TensorStore say it in the text of other exceptions.
        if any(text in str(error) for text in texts):
            return True
        error = error.__cause__ or error.__context__
    return False
