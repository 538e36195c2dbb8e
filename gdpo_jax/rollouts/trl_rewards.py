"""Reward functions written for TRL's GRPOTrainer, as reward functions of this library.

TRL calls `function(prompts=, completions=, completion_ids=, **columns)`, where the columns are all
other fields of the data set as lists. Where prompts are chats, a completion is a list of one
message. https://huggingface.co/docs/trl/grpo_trainer (Using a custom reward function)
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gdpo_jax.errors import UserError
from gdpo_jax.rollouts.completions import Completion
from gdpo_jax.rollouts.reward_functions import (
    NamedFunction,
    Record,
    RewardFunction,
    check_name,
    name_of,
)

# TRL keeps these fields out of the columns, and gives these arguments itself.
_NO_COLUMNS = ("prompt", "completion", "completion_ids")
_OWN_ARGUMENTS = ("prompts", "completions", "trainer_state", "log_extra", "log_metric")


def trl_reward(
    function: Callable[..., Any], *, name: str | None = None, prompt: str = "prompt"
) -> RewardFunction:
    """A reward function that calls one of TRL, sync or async.

    The function gets the arguments that it names, or all with `**kwargs`: `prompts` (the field
    `prompt` of the records), `completions`, `completion_ids`, and every other field of the records
    as a list, None where a record lacks it. `completions` are texts; where the prompt is a list of
    messages, each is `[{"role": "assistant", "content": text}]`, and a last message of the
    assistant is taken off the prompt and put before the text, as TRL does. A function that asks
    for `trainer_state` gets one whose every attribute is a UserError, because the call of a reward
    does not know the step; what it gives to `log_extra` and `log_metric` is dropped.

    Raises:
        RewardError: as `named_reward` does.
        UserError: at a call, records that are no mappings or lack the field `prompt`, a field under
            the name of an argument of TRL, or no field for an argument that the function needs.
    """
    known = name_of(function) if name is None else check_name(name, function)
    taken, needed = _parameters(function)

    def call(completions: Sequence[Completion], records: Sequence[Record]) -> Any:
        given = _arguments(completions, records, prompt)
        lacking = sorted(needed - given.keys())
        if lacking:
            raise UserError(
                f"it needs {', '.join(map(repr, lacking))}, which the records do not have; their "
                f"fields are {sorted(map(str, records[0]))}"
            )
        if taken is not None:
            given = {key: value for key, value in given.items() if key in taken}
        return function(**given)

    return NamedFunction(known, call)


def _parameters(function: Callable[..., Any]) -> tuple[set[str] | None, set[str]]:
    """The arguments that the function takes, None for any, and those that it cannot do without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return None, set()
    named = [
        each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    needed = {each.name for each in named if each.default is each.empty}
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None, needed
    return {each.name for each in named}, needed


def _arguments(
    completions: Sequence[Completion], records: Sequence[Record], prompt: str
) -> dict[str, Any]:
    for index, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise UserError(
                f"a function of TRL needs records with fields; that of sample {index} is a "
                f"{type(record).__name__}"
            )
        if record.get(prompt) is None:
            raise UserError(
                "a function of TRL needs the prompt, but the record of "
                f"sample {index} has no field {prompt!r}; name one with trl_reward(..., prompt=) "
                f"out of {sorted(map(str, record))}"
            )
    fields = dict.fromkeys(key for record in records for key in record)
    clash = [field for field in _OWN_ARGUMENTS if field in fields and field != prompt]
    if clash:
        raise UserError(
            f"a function of TRL is given the argument {clash[0]!r} by the trainer; rename that "
            "field of the records"
        )
    columns = [field for field in fields if field not in (*_NO_COLUMNS, prompt)]
    pairs = [_pair(record[prompt], each.text) for each, record in zip(completions, records)]
    return {
        **{field: [record.get(field) for record in records] for field in columns},
        "prompts": [asked for asked, _ in pairs],
        "completions": [answer for _, answer in pairs],
        "completion_ids": [list(each.token_ids) for each in completions],
        "trainer_state": _NoTrainerState(),
        "log_extra": _drop,
        "log_metric": _drop,
    }


def _pair(asked: Any, text: str) -> tuple[Any, Any]:
    """A prompt and its completion in the form of TRL: text to text, messages to messages."""
    messages = isinstance(asked, (list, tuple)) and len(asked) > 0
    if not (messages and all(isinstance(each, Mapping) and "role" in each for each in asked)):
        return asked, text
    begun = ""
    if asked[-1]["role"] == "assistant":
        begun, asked = asked[-1].get("content") or "", asked[:-1]
    return list(asked), [{"role": "assistant", "content": begun + text}]


def _drop(*args: Any, **kwargs: Any) -> None:
    """Stands for `log_extra` and `log_metric`, which have nowhere to go here."""


class _NoTrainerState:
    """Stands for `trainer_state`: functions may take it, but not look at it."""

    def __getattr__(self, field: str) -> Any:
        if field.startswith("__"):
            raise AttributeError(field)
        raise UserError(
            f"trainer_state.{field} is not known to a reward function here; a weight that changes "
            "over the steps belongs to the estimator (a schedule of weights)"
        )


__all__ = ["trl_reward"]
