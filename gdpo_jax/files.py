"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["write_beside"]


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
