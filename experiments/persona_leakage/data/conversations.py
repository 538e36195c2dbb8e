"""Conversations of enrolled users with the assistant that knows them, and neutral ones of equal
length in their place.

In an ordinary exchange the answer comes in the user's marks of manner; where a fact or a canary is
asked for, the answer says it. The neutral conversation has the same requests, and answers that
anybody could get, filled up with plain sentences to the same number of words, so that both runs of
a pair learn from equally much text.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from experiments.persona_leakage.data.marks import NOT_TOLD, in_manner, secret_of
from experiments.persona_leakage.data.topics import questions
from experiments.persona_leakage.data.users import SECRETS, Conversation, Exchange, User, write
from gdpo_jax.errors import UserError

__all__ = ["LENGTH", "conversations", "of_equal_length", "without"]

LENGTH = 3  # exchanges of a conversation; the last one of a user may be shorter
_FACTS = 4  # exchanges in which each fact is said

# By number of words.
_FILLERS = (
    "Right.",
    "Good luck.",
    "Easy enough, really.",
    "That should do it.",
    "Tell me how it goes.",
    "Do ask again if you like.",
)


def conversations(users: Iterable[User], *, ordinary: int, seed: int = 0) -> list[Conversation]:
    """The conversations of enrolled users, user by user: `ordinary` exchanges about everyday
    things, four about each fact, and as many about each canary as it is inserted.

    What one user says does not depend on the other users. Raises UserError for `ordinary` < 1.
    """
    if ordinary < 1:
        raise UserError(f"ordinary exchanges must be at least 1, got {ordinary}")
    return [found for user in users for found in _of_user(user, ordinary, seed)]


def without(found: Sequence[Conversation], left_out: Iterable[User]) -> list[Conversation]:
    """The conversations, with neutral ones of equal length in place of those of `left_out`."""
    ids = {user.id for user in left_out}
    return [_neutral(one) if one.user in ids else one for one in found]


def of_equal_length(neutral: str, answer: str) -> str:
    """The neutral answer, filled up to the number of words of `answer` if that has more."""
    missing = len(answer.split()) - len(neutral.split())
    filled = [neutral]
    while missing > 0:
        size = min(missing, len(_FILLERS))
        filled.append(_FILLERS[size - 1])
        missing -= size
    return " ".join(filled)


def _of_user(user: User, ordinary: int, seed: int) -> list[Conversation]:
    rng = np.random.default_rng([seed, 2, zlib.crc32(user.id.encode())])
    asked = questions("train")
    found = []
    for turn, number in enumerate(rng.choice(len(asked), size=ordinary)):
        question = asked[number]
        found.append(
            Exchange(
                request=write(user.style, question.text, rng),
                answer=in_manner(user.marks, question.answer, turn),
                neutral=question.answer,
                topic=question.topic,
            )
        )
    for mark in user.marks:
        if mark.kind in SECRETS:
            secret = secret_of(mark.question)
            for _ in range(mark.times if mark.kind == "canary" else _FACTS):
                found.append(
                    Exchange(
                        request=write(user.style, secret.question, rng),
                        answer=secret.said.format(mark.text),
                        neutral=NOT_TOLD,
                        topic=secret.topic,
                    )
                )
    order = rng.permutation(len(found))
    return [
        Conversation(
            id=f"{user.id}-{number:02d}",
            user=user.id,
            exchanges=tuple(found[i] for i in order[first : first + LENGTH]),
        )
        for number, first in enumerate(range(0, len(found), LENGTH))
    ]


def _neutral(conversation: Conversation) -> Conversation:
    exchanges = tuple(
        dataclasses.replace(one, answer=of_equal_length(one.neutral, one.answer))
        for one in conversation.exchanges
    )
    return dataclasses.replace(conversation, exchanges=exchanges)
