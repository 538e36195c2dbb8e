"""What talks: the protocol of models, the limits of an answer, and what an answer has cost."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from experiments.common.chats.messages import Conversation
from gdpo_jax.errors import UserError

__all__ = [
    "Answer",
    "Bill",
    "Limits",
    "Model",
    "OnAnswer",
    "OnFailure",
    "bill_of",
    "conversation_names",
    "failed",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How an answer is drawn and where it ends. Answers to equal requests are the same answer:
    for several draws of one conversation give several sample numbers."""

    max_new_tokens: int = 256  # tokens of the answer, at most
    temperature: float = 0.0  # 0: the most likely token each time
    stop: tuple[str, ...] = ()  # the answer ends before any of these texts
    seed: int | None = None  # of the draws; sample number s uses seed + s
    sample: int = 0  # number of the draw among several of one conversation

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens={self.max_new_tokens}; give at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"temperature={self.temperature}; give 0 or more")
        if isinstance(self.stop, str) or not all(isinstance(s, str) and s for s in self.stop):
            raise UserError(f"stop={self.stop!r}; give a tuple of texts")
        if self.sample < 0:
            raise UserError(f"sample={self.sample}; give 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said.

    reason: why it ended: "stop" (it was done), "length" (max_new_tokens), another word of an
    endpoint, or "unknown". Token counts and cost are None where nobody told them.
    """

    text: str
    reason: str = "unknown"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None  # what it cost when it was asked for, in the caller's currency
    cached: bool = False  # was it known before, so that nothing was paid this time?

    @property
    def finished(self) -> bool | None:
        """Did the model come to an end? None where that is not known."""
        return None if self.reason == "unknown" else self.reason == "stop"


OnAnswer = Callable[[int, Answer], None]
OnFailure = Callable[[int, UserError], None]


class Model(Protocol):
    """Answers conversations. `identity` is what distinguishes its answers from another model's, as
    JSON values without secrets: part of the key under which a cache knows them."""

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def answer(
        self,
        conversations: Sequence[Conversation],
        limits: Limits,
        *,
        names: Sequence[str] | None = None,
        on_answer: OnAnswer | None = None,
        on_failure: OnFailure | None = None,
    ) -> list[Answer | None]:
        """One answer to each conversation, in order.

        names: what messages call the conversations. on_answer: called with position and answer as
        soon as one is there. on_failure: called with position and error of a conversation that
        gets no answer; None stands in its place, and the others are answered.

        Raises `UserError` that names model and conversation: for the first failure unless
        `on_failure` takes it, and for what no conversation could get past, such as a key that is
        refused. Answers that were there before it have been given to `on_answer`.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bill:
    """What answers have used: those paid for this time, and how many were known before."""

    asked: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    unpriced: int  # asked ones whose cost nobody knows


def bill_of(answers: Iterable[Answer]) -> Bill:
    """The sums over answers; cached ones use nothing, and unknown counts add nothing."""
    answers = list(answers)
    asked = [answer for answer in answers if not answer.cached]
    return Bill(
        asked=len(asked),
        cached=len(answers) - len(asked),
        prompt_tokens=sum(answer.prompt_tokens or 0 for answer in asked),
        completion_tokens=sum(answer.completion_tokens or 0 for answer in asked),
        cost=math.fsum(answer.cost or 0.0 for answer in asked),
        unpriced=sum(answer.cost is None for answer in asked),
    )


def failed(error: UserError, position: int, on_failure: OnFailure | None) -> None:
    """Reports the failure of one conversation, or raises it where nobody wants to know."""
    if on_failure is None:
        raise error
    on_failure(position, error)


def conversation_names(conversations: Sequence[Any], names: Sequence[str] | None) -> list[str]:
    """The names of conversations, "conversation 0" and so on unless given."""
    if names is None:
        return [f"conversation {n}" for n in range(len(conversations))]
    if len(names) != len(conversations):
        raise UserError(f"{len(names)} names for {len(conversations)} conversations; give one each")
    return list(names)
