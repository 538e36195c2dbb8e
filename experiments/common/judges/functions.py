"""Judges that are Python functions, and verdicts remembered between runs."""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from experiments.common.chats.cache import Store, request_key
from experiments.common.files.json_rows import shown
from experiments.common.judges.verdict import Judge, Verdict
from gdpo_jax.errors import UserError

__all__ = ["function_judge", "load_function", "remembering"]


def load_function(name: str, *, what: str = "function", others: str = "") -> Callable[..., Any]:
    """The function of "module:function"; `others` are legal names besides, for the message.

    Raises `UserError` where there is none.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{what} {name!r}: {error}; give MODULE:FUNCTION{others}") from None
    if not callable(found):
        raise UserError(f"{what} {name!r} is a {type(found).__name__}, not a function")
    return found


def function_judge(
    function: Callable[[Any], Any],
    *,
    name: str,
    read: Callable[[Any], Verdict],
    case_name: Callable[[Any], str] = shown,
) -> Judge:
    """The judge that calls a function with each case; `read` makes a verdict of what it returns.

    Raises `UserError` with the name of the case where the function raises.
    """

    def judge(cases: Sequence[Any]) -> list[Verdict]:
        verdicts = []
        for case in cases:
            try:
                answer = function(case)
            except Exception as error:
                raise UserError(f"judge {name!r} failed on {case_name(case)}: {error!r}") from error
            verdicts.append(read(answer))
        return verdicts

    return judge


def remembering(
    judge: Judge,
    store: Store,
    *,
    name: str,
    request: Callable[[Any], Any],
) -> Judge:
    """The judge, asked one case at a time and only for what the store does not know yet.

    request: what of a case the verdict depends on, as JSON values; with `name` it is the key.
    Verdicts that could not be read are not kept. For a language model, keep its answers instead
    (`experiments.common.chats.cache.cached`): they can then be read anew.
    """

    def one(case: Any) -> Verdict:
        key = request_key("verdict", name, request(case))
        known = store.get(key)
        if known is not None:
            return Verdict(**known)
        [verdict] = judge([case])
        if verdict.read:
            store.put(key, dataclasses.asdict(verdict))
        return verdict

    return lambda cases: [one(case) for case in cases]
