"""What the processes of a run must do together, and how one leaves when another is gone.

Reading records and calling reward functions happens outside of the mesh. If such work fails on one
process alone, the others would wait for it in the next collective for ever. Here all processes tell
each other how it went and stop together.
"""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src.distributed import global_state
from jax.experimental import multihost_utils

from gdpo_jax.errors import UserError

__all__ = [
    "LostProcessError",
    "agreed_maxima",
    "agreed_maximum",
    "any_text",
    "exchange_bytes",
    "gather",
    "is_common",
    "is_lost_process",
    "leave_alone",
    "lost_process_message",
    "mark_common",
    "tell_failure",
    "together",
]

T = TypeVar("T")

_MESSAGE_BYTES = 2048
_FAILURES = "gdpo_jax/failures"  # where processes tell the coordinator why they end
# The last process to leave is the one whose end JAX takes for the end of all (seconds).
_LAST = 2.0
# How JAX's errors begin, which are not those of a user's function.
_STATUS = re.compile("[A-Z_]{5,}: ")
# How JAX, Gloo and NCCL name the loss of a peer; they have no exception of its own for it.
_LOSS = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|socket closed|coordination|heartbeat|UNAVAILABLE",
    re.IGNORECASE,
)


class LostProcessError(UserError):
    """Another process of the run has ended, so that this one cannot go on."""


def together(work: Callable[[], T]) -> T:
    """Run `work` on every process; return its result if it succeeded on all of them.

    Raises:
        Exception: what `work` raised on this process.
        UserError: it raised on another process only; quotes that process's message.
    """
    if jax.process_count() == 1:
        return work()
    failure: Exception | None = None
    try:
        result = work()
    except Exception as error:
        failure = error
    messages = _exchange("" if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise mark_common(failure)
    for process, message in enumerate(messages):
        if message:
            raise mark_common(UserError(f"process {process} stopped: {message}"))
    return result


def any_text(text: str) -> str:
    """The first text of any process that is not empty, the same on all of them; or ""."""
    if jax.process_count() == 1:
        return text
    return next(filter(None, _exchange(text)), "")


def agreed_maximum(value: int) -> int:
    """The largest `value` over all processes."""
    return agreed_maxima([value])[0]


def agreed_maxima(values: Sequence[int]) -> list[int]:
    """The largest of each of `values` over all processes."""
    if jax.process_count() == 1:
        return list(values)
    gathered = np.atleast_2d(gather(np.asarray(values, np.int32)))
    return np.max(gathered, axis=0).tolist()


def agreed_sums(values: np.ndarray) -> np.ndarray:
    """float64 numbers added up over all processes, in their order."""
    if jax.process_count() == 1:
        return values
    # As pairs of integers: devices hold no float64.
    bits = np.ascontiguousarray(values, np.float64).view(np.int32)
    gathered = np.ascontiguousarray(np.atleast_2d(gather(bits)), np.int32)
    return gathered.view(np.float64).sum(axis=0)


def mark_common(error: Exception | BaseException) -> Any:
    """`error`, which all processes raise at the same place."""
    error.common = True  # type: ignore[union-attr]
    return error


def is_common(error: BaseException) -> bool:
    """Whether all processes stop here, so that they can still do something together."""
    return jax.process_count() == 1 or getattr(error, "common", False)


def is_lost_process(error: BaseException | None) -> bool:
    """Whether `error` says that another process has ended."""
    if jax.process_count() == 1 or error is None:
        return False
    if isinstance(error, LostProcessError):
        return True
    # A collective that fails at once is a ValueError.
    kinds = (jax.errors.JaxRuntimeError, ValueError)
    told = isinstance(error, kinds) and _STATUS.match(str(error)) is not None
    return told and _LOSS.search(str(error)) is not None


def lost_process_message() -> str:
    """Who is gone and why, as far as this process can know, and what to do."""
    count, index = jax.process_count(), jax.process_index()
    again = f"start all {count} processes again"
    if told := _told_failures():
        return f"{'; '.join(told)}; {again}"
    who = f"process {1 - index}" if count == 2 else f"a process beside process {index}"
    return f"{who} is gone; {again}"


def tell_failure(error: BaseException) -> None:
    """Leave word for the other processes of why this one ends, as long as process 0 is there."""
    client = global_state.client
    if client is None:
        return
    said = " ".join(f"{type(error).__name__}: {error}".split())[:_MESSAGE_BYTES]
    text = f"process {jax.process_index()} stopped: {said}"
    try:
        client.key_value_set(f"{_FAILURES}/{jax.process_index()}", text, allow_overwrite=True)
    except jax.errors.JaxRuntimeError as failed:
        print(f"the other processes cannot be told why this one ends: {failed}", file=sys.stderr)


def _told_failures() -> list[str]:
    client = global_state.client
    if client is None:
        return []
    try:
        return [text for _, text in sorted(client.key_value_dir_get(_FAILURES))]
    except jax.errors.JaxRuntimeError:
        # Nobody has left word, or process 0, which keeps it, is gone.
        return []


def leave_alone() -> None:
    """Let this process end without waiting for the others, which may never come.

    JAX would wait in a barrier at exit until its own time-out ends the process with SIGABRT. The
    process that coordinates gives the others time to print their message first.
    """
    kept = (global_state.client, global_state.service, global_state.preemption_sync_manager)
    if kept == (None, None, None):
        return
    # Their destructors would wait as well; the frame of this thread keeps them.
    ending = threading.Event()
    threading.Thread(target=_end_after, args=(ending, kept), daemon=True).start()
    # When the main thread is through, before Python waits for the other threads.
    threading._register_atexit(ending.set)
    global_state.client = global_state.service = global_state.preemption_sync_manager = None
    if jax.process_index() == 0:
        time.sleep(_LAST)


def _end_after(ending: threading.Event, _: Any) -> None:
    """End the process if it does not end by itself: a checkpoint under way may hold a thread in a
    barrier of its own, and Python would wait for it."""
    ending.wait()
    time.sleep(_LAST)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _exchange(message: str) -> list[str]:
    found = exchange_bytes(message.encode(), _MESSAGE_BYTES)
    return [row.decode(errors="replace") for row in found]


def exchange_bytes(message: bytes, width: int) -> list[bytes]:
    """What each process sent, without its zero bytes, cut to `width`, which all share."""
    buffer = np.zeros(width, np.uint8)
    buffer[: len(message)] = np.frombuffer(message[:width], np.uint8)
    return [bytes(row[row != 0]) for row in np.atleast_2d(gather(buffer))]


def gather(value: np.ndarray) -> np.ndarray:
    """`value` of every process, along a new first axis."""
    try:
        return multihost_utils.process_allgather(value)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if is_lost_process(error):
            raise LostProcessError(lost_process_message()) from error
        raise
