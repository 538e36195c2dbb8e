"""A model that says given answers where a dialogue has them, and is asked everywhere else.

PrefEval (arXiv 2502.09597) gives the assistant's part of the exchanges between a preference and the
question, so that all models are asked behind the same conversation.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.chats.messages import Conversation
from experiments.common.chats.model import (
    Answer,
    Limits,
    Model,
    OnAnswer,
    OnFailure,
    conversation_names,
)

__all__ = ["GIVEN", "turn_name", "with_given"]

GIVEN = "given"  # why such an answer ended


def turn_name(case: str, number: int) -> str:
    """What a dialogue's turn is called. case: its id; number: of the turn, from 0."""
    return f"{case}, turn {number + 1}"


def with_given(model: Model, given: Mapping[str, Sequence[str]]) -> Model:
    """The model with answers given by the case's id, one for each turn but the last; "" where the
    model is asked. Conversations are known by their `turn_name`: parts of MIRROR have others."""
    answers = {
        turn_name(case, number): text
        for case, texts in given.items()
        for number, text in enumerate(texts)
        if text
    }
    return _Given(model, answers) if answers else model


@dataclasses.dataclass(frozen=True)
class _Given:
    model: Model
    answers: Mapping[str, str]  # by the turn's name

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.model.identity

    def answer(
        self,
        conversations: Sequence[Conversation],
        limits: Limits,
        *,
        names: Sequence[str] | None = None,
        on_answer: OnAnswer | None = None,
        on_failure: OnFailure | None = None,
    ) -> list[Answer | None]:
        names = conversation_names(conversations, names)
        found: dict[int, Answer | None] = {}
        for n, name in enumerate(names):
            if name in self.answers:
                found[n] = Answer(text=self.answers[name], reason=GIVEN, cost=0.0)
                if on_answer is not None:
                    on_answer(n, found[n])
        asked = [n for n in range(len(names)) if n not in found]
        if asked:
            said = self.model.answer(
                [conversations[n] for n in asked],
                limits,
                names=[names[n] for n in asked],
                on_answer=on_answer and (lambda n, answer: on_answer(asked[n], answer)),
                on_failure=on_failure and (lambda n, error: on_failure(asked[n], error)),
            )
            found |= dict(zip(asked, said, strict=True))
        return [found[n] for n in range(len(names))]
