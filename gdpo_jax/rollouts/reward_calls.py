"""Calling reward functions: plain ones in order, then all `async def` ones at the same time.

A function is given copies of the lists and records, so that what it changes in them reaches
neither the data nor another function.
"""

import asyncio
import contextlib
import copy
import inspect
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from gdpo_jax.rollouts.completions import Completion
from gdpo_jax.rollouts.event_loop import run_coroutine
from gdpo_jax.rollouts.reward_functions import (
    Record,
    RewardError,
    RewardFunction,
    describe_sample,
)
from gdpo_jax.rollouts.time_limit import LateError, time_limit

_LEAVING = (KeyboardInterrupt, SystemExit, GeneratorExit)
_ATOMS = frozenset((str, int, float, bool, bytes, type(None)))
_CALLS_AT_ONCE = 32


def call_rewards(
    functions: Sequence[RewardFunction],
    completions: Sequence[Completion],
    records: Sequence[Record],
    *,
    timeout: float | None = None,
) -> list[Any]:
    """What every function answers to the batch, in the order of the functions.

    timeout: seconds for each plain function, and for all `async def` ones together.

    Raises:
        RewardError: a function raises, or has no answer in time; names it, what it raised, and the
            first sample it fails on. The other `async def` functions are cancelled and awaited
            first.
    """
    answers: list[Any] = []
    waiting: dict[int, Awaitable[Any]] = {}
    try:
        for index, function in enumerate(functions):
            answers.append(_call(function, completions, records, timeout))
            if inspect.isawaitable(answers[index]):
                waiting[index] = answers[index]
        if waiting:
            asked = [functions[index] for index in waiting]
            awaited = _await_all(asked, list(waiting.values()), completions, records, timeout)
            # Three times as long as its own limits, for a coroutine that blocks the event loop.
            names = ", ".join(repr(function.name) for function in asked)
            try:
                with time_limit(timeout and 3 * timeout, f"reward {names}"):
                    given = run_coroutine(awaited)
            except LateError as error:
                raise _report(asked[0], error, None, completions, timeout) from error
            for index, answer in zip(waiting, given):
                answers[index] = answer
    finally:
        close_coroutines(waiting.values())
    return answers


def close_coroutines(values: Iterable[Any]) -> None:
    """Ends coroutines that nobody will await; one that has ended is left as it is."""
    for value in values:
        if inspect.iscoroutine(value):
            value.close()


def _call(
    function: RewardFunction,
    completions: Sequence[Completion],
    records: Sequence[Record],
    timeout: float | None,
) -> Any:
    what = f"reward {function.name!r}"
    try:
        with time_limit(timeout, what):
            return function(list(completions), own_records(records))
    except _LEAVING:
        raise
    except BaseException as error:
        index = None
        with contextlib.suppress(LateError), time_limit(timeout, what):
            index = _first_failing(function, completions, records)
        raise _report(function, error, index, completions, timeout) from error


def _first_failing(
    function: RewardFunction, completions: Sequence[Completion], records: Sequence[Record]
) -> int | None:
    """The first sample on which the function raises, or is when the time is over."""
    for index, (completion, record) in enumerate(zip(completions, records)):
        try:
            close_coroutines([function([completion], own_records([record]))])
        except _LEAVING:
            raise
        except BaseException:
            return index
    return None


async def _await_all(
    functions: Sequence[RewardFunction],
    waiting: Sequence[Awaitable[Any]],
    completions: Sequence[Completion],
    records: Sequence[Record],
    timeout: float | None,
) -> list[Any]:
    tasks = [asyncio.ensure_future(_outcome(each)) for each in waiting]
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
        errors = [_error_of(task) if task.done() else None for task in tasks]
        late = all(error is None for error in errors)
        if late:
            errors = [None if task.done() else LateError() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for function, error in zip(functions, errors):
        if error is not None:
            index = None
            # What blocked the event loop would do so again.
            if late or not isinstance(error, LateError):
                index = await _first_failing_await(function, completions, records, timeout)
            raise _report(function, error, index, completions, timeout) from error
    return [task.result() for task in tasks]


def _error_of(task: asyncio.Task) -> BaseException | None:
    if task.cancelled():
        return asyncio.CancelledError("another task cancelled it")
    error = task.exception()
    return error.__cause__ if isinstance(error, _RaisedError) else error


async def _first_failing_await(
    function: RewardFunction,
    completions: Sequence[Completion],
    records: Sequence[Record],
    timeout: float | None,
) -> int | None:
    """The first sample on which the function raises, or is when the time is over."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout

    async def fails(completion: Completion, record: Record) -> bool:
        try:
            async with asyncio.timeout_at(deadline):
                answer = function([completion], own_records([record]))
                await _outcome(answer) if inspect.isawaitable(answer) else None
        except _LEAVING:
            raise
        except Exception:
            return True
        return False

    samples = list(zip(completions, records))
    for start in range(0, len(samples), _CALLS_AT_ONCE):
        if deadline is not None and loop.time() >= deadline:
            break
        some = samples[start : start + _CALLS_AT_ONCE]
        failing = await asyncio.gather(*(fails(*sample) for sample in some))
        if any(failing):
            return start + failing.index(True)
    return None


class _RaisedError(Exception):
    """What a coroutine raised is the cause: a cancellation too, if it was the coroutine's own."""


async def _outcome(awaitable: Awaitable[Any]) -> Any:
    task = asyncio.current_task()
    try:
        return await awaitable
    except _LEAVING:
        raise
    except BaseException as error:
        if task is not None and task.cancelling():
            raise
        raise _RaisedError from error


def _report(
    function: RewardFunction,
    error: BaseException,
    index: int | None,
    completions: Sequence[Completion],
    timeout: float | None,
) -> RewardError:
    if index is None:
        where = f"on the batch of {len(completions)} samples, though on none of them alone"
    else:
        where = f"on {describe_sample(index, completions)}"
    if isinstance(error, LateError):
        return RewardError(
            f"reward {function.name!r} did not answer within {timeout:g} seconds (score_timeout)"
            f"\n{where}"
        )
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be shown, since its __str__ raises)"
    return RewardError(f"reward {function.name!r} raised {type(error).__name__}: {text}\n{where}")


def own_records(records: Sequence[Record]) -> list[Any]:
    """The records with lists, dictionaries, sets and NumPy arrays of their own, at any depth.

    A record that stands at several places is copied once. An object that cannot be copied, and
    an array of JAX, which nobody can change, is handed over as it is.
    """
    copies = {id(record): record for record in records}
    copies = {key: _own(record) for key, record in copies.items()}
    return [copies[id(record)] for record in records]


def _own(value: Any) -> Any:
    kind = type(value)
    if kind in _ATOMS or isinstance(value, (jax.Array, np.generic)):
        return value
    if kind is dict:
        return {key: each if type(each) in _ATOMS else _own(each) for key, each in value.items()}
    if kind is list or kind is tuple:
        return kind([each if type(each) in _ATOMS else _own(each) for each in value])
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


__all__ = ["call_rewards", "close_coroutines", "own_records"]
