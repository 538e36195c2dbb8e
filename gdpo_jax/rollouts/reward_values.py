"""The answers of a reward function to numbers: one a completion, or one a rank of it."""

import math
from collections import UserString
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from numbers import Complex, Real
from typing import Any

import numpy as np
from jaxtyping import Float

from gdpo_jax.rollouts.completions import Completion
from gdpo_jax.rollouts.reward_calls import close_coroutines
from gdpo_jax.rollouts.reward_functions import RewardError, describe_sample, shown

_LARGEST = float(np.finfo(np.float32).max)
_TEXT = (str, bytes, bytearray, memoryview, UserString)
# Dates, time spans and text; some would turn into numbers without their unit.
_NO_NUMBERS = "mMSUTc"


def reward_column(
    name: str, answers: Any, completions: Sequence[Completion], num_ranks: int | None
) -> Float[np.ndarray, "N *R"]:
    """One function's answers as float64 `[N]`, or `[N, R]` with ranks; NaN where it has no opinion.

    With ranks, an answer that is one number counts at each of them.

    Raises:
        RewardError: no sequence of one entry per completion (text, bytes, a mapping and a set are
            none), a wrong number of ranks, or an entry that is no finite number of float32's range.
    """
    try:
        entries = _entries(answers)
    except Exception as error:
        raise RewardError(
            f"reward {name!r} returned {type(answers)} for {len(completions)} completions, whose "
            f"entries cannot be read ({type(error).__name__}); return a list"
        ) from error
    if entries is None:
        raise RewardError(
            f"reward {name!r} returned {type(answers)} for {len(completions)} completions; it must "
            f"return a list with one entry per completion, in their order"
        )
    if len(entries) != len(completions):
        raise RewardError(
            f"reward {name!r} returned {len(entries)} values for {len(completions)} completions; "
            "it must return one entry per completion"
        )
    try:
        rows = [
            each
            if type(each) is float and -_LARGEST <= each <= _LARGEST
            # The common case first: a batch has thousands of entries.
            else _row(name, each, index, completions, num_ranks)
            for index, each in enumerate(entries)
        ]
    except RewardError:
        close_coroutines(entries)
        raise
    if num_ranks is None:
        return np.array(rows, np.float64)
    column = np.empty((len(rows), num_ranks), np.float64)
    for index, row in enumerate(rows):
        column[index] = row
    return column


def _row(
    name: str, answer: Any, index: int, completions: Sequence[Completion], num_ranks: int | None
) -> float | list[float]:
    ranks = _entries(answer)
    if ranks is None:
        return _number(name, answer, index, completions)
    if num_ranks is None:
        raise RewardError(
            f"reward {name!r} returned {len(ranks)} values for "
            f"{describe_sample(index, completions)}\nthis run scores whole samples; return one "
            "number or None per sample"
        )
    if len(ranks) != num_ranks:
        raise RewardError(
            f"reward {name!r} returned {len(ranks)} ranks for "
            f"{describe_sample(index, completions)}\nthis run has {num_ranks} ranks; return one "
            "number or None for each, or a single one for the sample"
        )
    return [_number(name, value, index, completions) for value in ranks]


def _entries(value: Any) -> Sequence[Any] | None:
    """The entries of a list, tuple, array or another sequence; None for anything else."""
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (*_TEXT, Mapping, Set)):
        return None
    if isinstance(getattr(value, "ndim", None), int) and hasattr(value, "tolist"):
        kind = getattr(getattr(value, "dtype", None), "kind", None)
        if value.ndim == 0:
            return None
        return list(value) if kind in tuple(_NO_NUMBERS) else value.tolist()
    if hasattr(value, "keys") or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        return None
    return list(value)


def _number(name: str, answer: Any, index: int, completions: Sequence[Completion]) -> float:
    try:
        value = _float(answer)
    except Exception:  # types of other libraries raise what they like
        value = math.inf
    if abs(value) > _LARGEST:
        raise RewardError(
            f"reward {name!r} returned {shown(answer)} for {describe_sample(index, completions)}\n"
            "a reward is a finite number within the range of float32; None or NaN mark a sample "
            "without one"
        )
    return value


def _float(answer: Any) -> float:
    """The number as a float, NaN for None and for a masked entry; TypeError for what is none."""
    if isinstance(answer, np.ma.MaskedArray):
        answer = answer.tolist()
    if answer is None:
        return math.nan
    if isinstance(answer, (Real, Decimal, np.bool_)) and not isinstance(answer, np.timedelta64):
        return float(answer)
    kind = getattr(getattr(answer, "dtype", None), "kind", None)
    if kind in tuple(_NO_NUMBERS) or isinstance(answer, (*_TEXT, Complex)):
        raise TypeError
    if getattr(answer, "ndim", 0) == 0 and hasattr(type(answer), "__float__"):
        return float(answer)
    raise TypeError


__all__ = ["reward_column"]
