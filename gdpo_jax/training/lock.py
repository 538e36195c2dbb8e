"""One run at a time in a work directory."""

import contextlib
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax

from gdpo_jax.errors import UserError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = ["only_run_in"]

_LOCK = "run.lock"
_AGAIN = 0.05  # seconds between tries


@contextlib.contextmanager
def only_run_in(workdir: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Make `workdir` and hold `workdir/run.lock`, which the system releases when this process ends,
    however it ends. Of several processes only the first does so.

    patience: seconds to wait for the end of another run that holds it.

    Where files cannot be locked (Windows, some network file systems) a warning says so.

    Raises:
        UserError: another run holds it (names that run's process and machine), or `workdir` cannot
            be made or written.
    """
    if jax.process_index() != 0:
        yield
        return
    path = workdir / _LOCK
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        # Not "w": the file must keep the name of the run that holds it.
        file = path.open("a+", encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{workdir} cannot be a work directory: {error}") from error
    with file:
        held = _lock(file.fileno(), path, time.monotonic() + patience)
        if held:
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        try:
            yield
        finally:
            if held:
                # Not by closing alone: a process forked meanwhile has the file open as well.
                fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def _lock(number: int, path: Path, deadline: float) -> bool:
    reason = "this system has no flock"
    while fcntl is not None:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError as error:
            if time.monotonic() < deadline:
                time.sleep(_AGAIN)
                continue
            holder = path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
            raise UserError(
                f"another run is under way in {path.parent} ({holder}); wait for its end, stop it, "
                "or use another work directory"
            ) from error
        except OSError as error:
            reason = f"its file system cannot: {error.strerror}"
            break
    warnings.warn(
        f"{path} cannot be locked ({reason}); see to it that no other run uses {path.parent}",
        stacklevel=2,
    )
    return False
