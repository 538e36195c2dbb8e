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
    results: dict[int, Answer | UserError] = {}
    try:
        model.answer(
            conversations,
            limits,
            names=names,
            on_answer=results.__setitem__,
            on_failure=results.__setitem__,
        )
    except UserError as error:  # what no conversation could get past, so it is asked no further
        return [results.get(n, error) for n in range(len(conversations))]
    return [results[n] for n in range(len(conversations))]
