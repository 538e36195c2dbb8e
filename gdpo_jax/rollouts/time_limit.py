"""A time limit on calls of plain functions, which nothing can stop from outside but a signal.

The signal interrupts Python code in the main thread, also while it sleeps or waits for a connection
or a lock. What does not react (code outside of Python, or code that catches everything) is ended
with its process.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from gdpo_jax.errors import UserError

__all__ = ["LateError", "check_time_limit", "time_limit"]

# Not SIGALRM, with which functions limit the time of their own parts.
_SIGNAL = getattr(signal, "SIGUSR2", None)
_GRACE = 10.0  # seconds in which the interrupted code must be left
_CODE = 2  # as after other mistakes that one message tells


class LateError(BaseException):
    """The time is over. No `Exception`, which a function may catch to try once more."""


def check_time_limit(seconds: float | None) -> None:
    """Raises UserError for a limit that is not positive, or that cannot be kept here."""
    if seconds is None:
        return
    if seconds <= 0:
        raise UserError(f"score_timeout must be positive, or None for no limit, got {seconds}")
    if _SIGNAL is None or threading.current_thread() is not threading.main_thread():
        raise UserError(
            "score_timeout needs a POSIX system and a run in the main thread; leave it out, and "
            "give the reward functions time limits of their own"
        )


@contextlib.contextmanager
def time_limit(seconds: float | None, what: str) -> Iterator[None]:
    """Raise LateError inside of this after `seconds` (None: no limit).

    what: is being done, for the line that is left of a process that had to be ended.
    """
    if seconds is None:
        yield
        return
    over, inside = threading.Event(), True

    def interrupt(number: int, frame: FrameType | None) -> None:
        if inside:
            raise LateError

    def watch() -> None:
        if over.wait(seconds):
            return
        signal.pthread_kill(threading.main_thread().ident, _SIGNAL)
        if not over.wait(_GRACE):
            _leave(f"{what} took more than {seconds:g} seconds and cannot be interrupted")

    before = signal.signal(_SIGNAL, interrupt)
    watching = threading.Thread(target=watch, name="time limit", daemon=True)
    watching.start()
    try:
        try:
            yield
        finally:
            inside = False
    finally:
        over.set()
        watching.join()
        signal.signal(_SIGNAL, before)


def _leave(message: str) -> None:
    """End the process from another thread, while its main thread hangs."""
    text = f"error: {message}; the same command goes on after the last checkpoint\n"
    os.write(sys.stderr.fileno(), text.encode())
    os._exit(_CODE)
