"""Process-local work that must succeed on every process or stop all of them.

Reading records and calling reward functions happens outside of the mesh. If such work fails on one
process alone, the others would wait for it in the next collective for ever. Here all processes tell
each other how it went and stop together.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from gdpo_jax.errors import UserError

T = TypeVar("T")

_MESSAGE_BYTES = 2048


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
        raise failure
    for process, message in enumerate(messages):
        if message:
            raise UserError(f"process {process} stopped: {message}")
    return result


def agreed_maximum(value: int) -> int:
    """The largest `value` over all processes."""
    return agreed_maxima([value])[0]


def agreed_maxima(values: Sequence[int]) -> list[int]:
    """The largest of each of `values` over all processes."""
    if jax.process_count() == 1:
        return list(values)
    gathered = np.atleast_2d(_gather(np.asarray(values, np.int32)))
    return np.max(gathered, axis=0).tolist()


def agreed_sums(values: np.ndarray) -> np.ndarray:
    """float64 numbers added up over all processes, in their order."""
    if jax.process_count() == 1:
        return values
    # As pairs of integers: devices hold no float64.
    bits = np.ascontiguousarray(values, np.float64).view(np.int32)
    gathered = np.ascontiguousarray(np.atleast_2d(_gather(bits)), np.int32)
    return gathered.view(np.float64).sum(axis=0)


def _exchange(message: str) -> list[str]:
    encoded = message.encode()[:_MESSAGE_BYTES]
    buffer = np.zeros(_MESSAGE_BYTES, np.uint8)
    buffer[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    return [bytes(row[row != 0]).decode(errors="replace") for row in np.atleast_2d(_gather(buffer))]


def _gather(value: np.ndarray) -> Any:
    return multihost_utils.process_allgather(value)
