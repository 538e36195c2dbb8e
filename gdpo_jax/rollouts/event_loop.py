"""An event loop for code that is not async: one for all calls, running only while it is waited on.

Clients, locks and semaphores that a coroutine keeps between calls belong to the loop they were
first used in, so a new loop for every call would break the second one. No thread and no task
is left between calls: tasks that are not done at the end of a call are cancelled and awaited.
"""

import asyncio
import atexit
import contextvars
import functools
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_in_use = threading.Lock()


def run_coroutine(main: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, also where this thread runs an event loop of its own (a notebook):
    then it runs in another thread, and this one waits.

    A call from within another call, or from another thread meanwhile, gets a loop of its own.
    """
    if _in_use.acquire(blocking=False):
        try:
            return _run_anywhere(_kept_loop(), main)
        finally:
            _in_use.release()
    loop = asyncio.new_event_loop()
    try:
        return _run_anywhere(loop, main)
    finally:
        _run_anywhere(loop, loop.shutdown_asyncgens())
        loop.close()


@functools.lru_cache(maxsize=1)
def _kept_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    atexit.register(_close_at_exit, loop)
    return loop


def _close_at_exit(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _run_anywhere(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(loop, main)
    with ThreadPoolExecutor(max_workers=1) as other_thread:
        context = contextvars.copy_context()
        result = other_thread.submit(context.run, _run, loop, main)
        try:
            return result.result()
        except BaseException:
            # An interrupt of this thread; the other one must end before this function does.
            if not result.done():
                loop.call_soon_threadsafe(_cancel_tasks, loop)
            raise


def _run(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    try:
        return loop.run_until_complete(main)
    finally:
        left = _cancel_tasks(loop)
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task]:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    return left


__all__ = ["run_coroutine"]
