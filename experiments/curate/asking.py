"""Many conversations asked of a model at once, where the failure of one ends no other."""

import dataclasses
from collections.abc import Sequence

from experiments.common.chats.messages import Conversation
from experiments.common.chats.model import Answer, Limits, Model
from gdpo_jax.errors import UserError

__all__ = ["ask_all"]

_SECOND_DRAW = 1 << 20  # sample number of a request that is made again: no other draw has it


def ask_all(
    model: Model, conversations: Sequence[Conversation], limits: Limits, names: Sequence[str]
) -> list[Answer | UserError]:
    """The answer to each conversation, or why there is none.

    An answer without any text is asked for once more, as another draw. The names must differ.
    Raises `UserError` for names that do not.
    """
    if len(set(names)) != len(names):
        raise UserError("conversations of one call need different names")
    results = _ask(model, conversations, limits, names)
    empty = [n for n, r in enumerate(results) if isinstance(r, Answer) and not r.text.strip()]
    if empty:
        again = dataclasses.replace(limits, sample=limits.sample + _SECOND_DRAW)
        second = _ask(model, [conversations[n] for n in empty], again, [names[n] for n in empty])
        for n, result in zip(empty, second):
            silent = isinstance(result, Answer) and not result.text.strip()
            results[n] = UserError(f"{names[n]}: the answer is empty, twice") if silent else result
    return results


def _ask(
    model: Model, conversations: Sequence[Conversation], limits: Limits, names: Sequence[str]
) -> list[Answer | UserError]:
    """A model stops at the first conversation that fails; the others are asked again without it."""
    results: dict[int, Answer | UserError] = {}
    waiting = list(range(len(conversations)))
    while waiting:
        asked = tuple(waiting)

        def keep(position: int, answer: Answer, asked: Sequence[int] = asked) -> None:
            results[asked[position]] = answer

        try:
            model.answer(
                [conversations[n] for n in asked],
                limits,
                names=[names[n] for n in asked],
                on_answer=keep,
            )
        except UserError as error:
            left = [n for n in asked if n not in results]
            failed = [n for n in left if f"{names[n]}: " in str(error)]
            if len(left) == 1 or not failed:
                failed = left
            # "row 1: " also stands in "sc1/row 1: "; the longest name is the one that was meant.
            results[max(failed, key=lambda n: len(names[n]))] = error
        waiting = [n for n in asked if n not in results]
    return [results[n] for n in range(len(conversations))]
