"""What a reward function is, and the name that metrics, weights and errors call it by."""

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from gdpo_jax.errors import UserError
from gdpo_jax.rollouts.completions import Completion

Record = Mapping[str, Any]
SampleReward = float | None
RankRewards = Sequence[SampleReward]
Answers = Sequence[SampleReward] | Sequence[RankRewards]

_SHOWN_CHARACTERS = 400
_WAYS = (
    'write it with def, set its `name` attribute (function.name = "..."), or give an object that '
    "has a `name` and a call"
)


@runtime_checkable
class RewardFunction(Protocol):
    """Scores completions; `name` is what metrics, weights and errors call it.

    The call may be an `async def`.
    """

    @property
    def name(self) -> str: ...

    def __call__(
        self, completions: Sequence[Completion], records: Sequence[Record]
    ) -> Answers | Awaitable[Answers]: ...


class RewardError(UserError):
    """A reward function failed or gave no reward; names the function, the sample and its text."""


@dataclass(frozen=True)
class NamedFunction:
    """A callable under a name: the reward function that `named_reward` makes of a plain one."""

    name: str
    function: Callable[..., Any]

    def __call__(self, completions: Sequence[Completion], records: Sequence[Record]) -> Any:
        return self.function(completions, records)


def named_reward(function: Any) -> RewardFunction:
    """A reward function with a name: an object that has a `name` is returned as it is; a plain
    function, sync or async, gets its own `__name__`, and a partial that of what it wraps.

    Raises:
        RewardError: no callable, a class, a callable without a name, a lambda, or a name that
            metrics cannot hold (`check_name`).
    """
    name = name_of(function)
    return function if hasattr(function, "name") else NamedFunction(name, function)


def name_of(function: Any) -> str:
    """The name of a reward function; raises RewardError as `named_reward` does."""
    if isinstance(function, type):
        raise RewardError(
            f"{function.__name__} is a class, no reward function; give an instance of it, "
            f"{function.__name__}(...)"
        )
    if not callable(function):
        raise RewardError(f"{shown(function)} is no reward function: it cannot be called")
    return check_name(_own_name(function), function)


def check_name(name: Any, function: Any) -> str:
    """The name, where it can stand in the columns of metrics (`reward/NAME/mean`) and in tables.

    Raises:
        RewardError: no text, empty, with a "/" or a character that cannot be printed (line ends,
            control characters), or with spaces around it.
    """
    if not isinstance(name, str):
        problem = f"is no text but {shown(name)}"
    elif not name.strip():
        problem = f"is empty ({name!r})"
    elif "/" in name:
        problem = (
            f'is {name!r}; "/" separates the parts of a metric\'s name, as in reward/NAME/mean'
        )
    elif not name.isprintable():
        problem = f"is {name!r}; it holds a line end or another character that cannot be printed"
    elif name != name.strip():
        problem = f"is {name!r}; it begins or ends with a space"
    else:
        return name
    raise RewardError(f"the name of the reward function {shown(function)} {problem}; rename it")


def check_distinct(names: Sequence[str]) -> None:
    """Raises RewardError for no name at all, or for one that is given twice."""
    if not names:
        raise RewardError("no reward function is given; at least one is needed")
    if len(set(names)) != len(names):
        raise RewardError(f"reward names must differ, got {list(names)}; to rename one, {_WAYS}")


def describe_sample(index: int, completions: Sequence[Completion]) -> str:
    """Which sample of the batch, and the start of its text, for messages."""
    text = completions[index].text
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"
    return f"sample {index} of {len(completions)}, whose text is {text!r}"


def shown(value: Any, *, length: int = 200) -> str:
    """The start of a value's representation, for messages; its type where it cannot be shown."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}, which cannot be shown>"
    return text if len(text) <= length else f"{text[:length]}..."


def _own_name(function: Any) -> Any:
    if hasattr(function, "name"):
        return function.name
    if isinstance(function, functools.partial):
        return _own_name(function.func)
    name = getattr(function, "__name__", None)
    if name == "__call__":
        return _own_name(function.__self__)
    if name == "<lambda>":
        raise RewardError(f"a lambda has no name to call the reward by; {_WAYS}")
    if name is None:
        raise RewardError(f"the reward function {shown(function)} has no name; {_WAYS}")
    return name


__all__ = [
    "Answers",
    "NamedFunction",
    "Record",
    "RewardError",
    "RewardFunction",
    "check_distinct",
    "check_name",
    "describe_sample",
    "name_of",
    "named_reward",
    "shown",
]
