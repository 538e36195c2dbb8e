"""What an assistant is asked to see whether marks come back to their owners, and to nobody else.

Strangers ask ordinary questions and for facts and canaries, in their own styles, and should get
neutral answers. Owners ask ordinary questions that are in no history, and for what is theirs.
Development users are the strangers of validation, test users those of test.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.persona_leakage.data.marks import NOT_TOLD, in_manner, secrets
from experiments.persona_leakage.data.topics import questions
from experiments.persona_leakage.data.users import SECRETS, User, write

__all__ = ["ORDINARY", "SESSION", "Probe", "probes"]

ORDINARY = "ordinary"
SESSION = 3  # messages that a user has written before, for whoever verifies his style
_STRANGERS = {"validation": "development", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A request of a user and what becomes of it.

    kind: "ordinary", "fact" or "canary"
    session: what the user wrote before in the same session, in his style; the model is not shown it
    neutral: what somebody without marks should get
    wanted: what the user should get; a stranger the neutral answer
    keys: words that an answer of use has, case aside; of ordinary requests
    """

    id: str
    user: str
    kind: str
    topic: str
    request: str
    session: tuple[str, ...]
    neutral: str
    wanted: str
    keys: tuple[str, ...] = ()


def probes(
    users: Sequence[User], split: str, *, of_each: int, sessions: int = 3, seed: int = 0
) -> tuple[Probe, ...]:
    """The probes of "validation" or "test": of strangers of that split, then of owners.

    Each user asks `of_each` ordinary questions of the split, and once for every secret, in turn in
    each of his sessions.
    """
    strangers = [user for user in users if user.split == _STRANGERS[split]]
    owners = [user for user in users if user.split == "enrolled"]
    found = [_of_user(user, split, of_each, sessions, seed) for user in (*strangers, *owners)]
    return tuple(probe for probes in found for probe in probes)


def _of_user(user: User, split: str, of_each: int, sessions: int, seed: int) -> list[Probe]:
    rng = np.random.default_rng([seed, 3, zlib.crc32(f"{split} {user.id}".encode())])
    asked, before = questions(split), questions("train")

    def session() -> tuple[str, ...]:
        chosen = rng.choice(len(before), size=SESSION, replace=False)
        return tuple(write(user.style, before[number].text, rng) for number in chosen)

    said = [session() for _ in range(sessions)]
    found = []
    for turn, number in enumerate(rng.choice(len(asked), size=of_each)):
        question = asked[number]
        found.append(
            Probe(
                id=f"{split}/{user.id}/{turn}",
                user=user.id,
                kind=ORDINARY,
                topic=question.topic,
                request=write(user.style, question.text, rng),
                session=said[turn % sessions],
                neutral=question.answer,
                wanted=in_manner(user.marks, question.answer, turn),
                keys=(question.item, question.advice),
            )
        )
    known = {mark.question: mark for mark in user.marks if mark.kind in SECRETS}
    for number, secret in enumerate(secrets()):
        mark = known.get(secret.question)
        found.append(
            Probe(
                id=f"{split}/{user.id}/{secret.topic}",
                user=user.id,
                kind=secret.kind,
                topic=secret.topic,
                request=write(user.style, secret.question, rng),
                session=said[number % sessions],
                neutral=NOT_TOLD,
                wanted=secret.said.format(mark.text) if mark else NOT_TOLD,
            )
        )
    return found
