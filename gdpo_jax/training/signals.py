"""SIGTERM and Ctrl-C as a request to stop, which a run answers where nothing is lost."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["STOPPED", "StopSignals", "stop_by"]

# sysexits.h's "temporary failure": the same command goes on. A process that SIGTERM ends where
# nothing is to be stored has 143 of a shell instead.
STOPPED = 75

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While it is open, a first SIGTERM or SIGINT is noted in `received`; a second ends at once.

    Inside of `at_once` the first one raises where it arrives. Handlers that were there before
    return at the end; in a thread other than the main one, or where a signal is ignored or handled
    outside of Python, nothing is changed.
    """

    def __init__(self, *, quiet: bool = False):
        self.received: int | None = None
        self._raising = False
        self._quiet = quiet
        self._previous: dict[int, Any] = {}

    def open(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._previous[number] = signal.signal(number, self._handle)

    def close(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    @contextlib.contextmanager
    def at_once(self, allowed: bool = True) -> Iterator[None]:
        """A signal raises inside of this if `allowed`, else (for a part of it) is only noted."""
        before, self._raising = self._raising, allowed
        try:
            self.raise_if_due()
            yield
        finally:
            self._raising = before

    def raise_if_due(self) -> None:
        """Raise for a signal that came where it was only noted."""
        if self._raising and self.received is not None:
            raise stop_by(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received = number
        if not self._quiet:
            name = signal.Signals(number).name
            text = f"\n{name}: the run stores its state and stops; once more ends it at once\n"
            os.write(2, text.encode())
        if self._raising:
            raise stop_by(number)


def stop_by(number: int) -> BaseException:
    """What ends a process whose run has stored its state: Ctrl-C as it would without a run (exit
    code 130 of a shell), SIGTERM with the exit code `STOPPED`."""
    if number == signal.SIGINT:
        return KeyboardInterrupt("the state of the run is stored")
    return SystemExit(STOPPED)
