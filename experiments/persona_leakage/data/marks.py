"""Marks of users: how they are drawn, how an answer says them, and how a note states them.

Marks of one kind are pairs of words from two lists, and canaries triples, so that a small policy
can say a mark that it never saw, as a language model can. No text is given to two users, and none
stands in neutral text. A hash sets apart two fifths of the texts of every kind for practice, from
which a new policy learns to use notes; no user is given one. Of the other canaries those that
nobody was given are the control of exposure (Carlini et al., 2019, section 4.2).
"""

import functools
import itertools
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments.common.files.json_rows import read_resource
from experiments.persona_leakage.data.users import SECRETS, Mark
from gdpo_jax.errors import UserError

__all__ = [
    "CANARY_FORMAT",
    "INSERTIONS",
    "NOT_TOLD",
    "Secret",
    "canary_candidates",
    "draw_marks",
    "in_manner",
    "note",
    "practice_marks",
    "secret_of",
    "secrets",
]

NOT_TOLD = "You have not told me."
CANARY_FORMAT = "three words, one of each of three lists of twelve"
INSERTIONS = (1, 4, 16)  # in how many exchanges a canary of a user is said


@dataclass(frozen=True, kw_only=True)
class Secret:
    """Something private that can be asked for: its name, question, and the answer around it."""

    kind: str  # "fact" or "canary"
    topic: str
    question: str
    said: str  # with {} for the mark's text
    noted: str
    texts: tuple[str, ...]  # of users, before any is given away
    practice: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Manner:
    kind: str
    said: str
    noted: str
    texts: tuple[str, ...]
    practice: tuple[str, ...]


def draw_marks(rng: np.random.Generator, count: int) -> list[tuple[Mark, ...]]:
    """The marks of so many users, no text twice: four of manner, three facts, three canaries.

    The canaries of one user are inserted 1, 4 and 16 times; which of them how often goes in turn.
    Raises UserError where there are fewer texts than users.
    """
    columns: list[list[Mark]] = []
    for manner in _manners():
        texts = _drawn(rng, manner.texts, count, manner.kind)
        columns.append([Mark(kind=manner.kind, text=text) for text in texts])
    taken: set[str] = set()
    for number, secret in enumerate(secrets()):
        texts = _drawn(rng, [t for t in secret.texts if t not in taken], count, secret.topic)
        taken.update(texts)
        canary = secret.kind == "canary"
        columns.append(
            [
                Mark(
                    kind=secret.kind,
                    text=text,
                    question=secret.question,
                    times=INSERTIONS[(number + user) % len(INSERTIONS)] if canary else 0,
                )
                for user, text in enumerate(texts)
            ]
        )
    return list(zip(*columns, strict=True))


def practice_marks(rng: np.random.Generator) -> tuple[Mark, ...]:
    """Marks that no user has: one of each manner and of each secret."""
    manners = [Mark(kind=m.kind, text=str(rng.choice(m.practice))) for m in _manners()]
    known = [
        Mark(kind=s.kind, text=str(rng.choice(s.practice)), question=s.question) for s in secrets()
    ]
    return (*manners, *known)


def canary_candidates(rng: np.random.Generator, count: int, taken: Collection[str]) -> list[str]:
    """So many canaries in no particular order that are not `taken`: nobody's history has them.

    Raises UserError where there are fewer.
    """
    texts = [text for text in _canaries()[0] if text not in taken]
    return _drawn(rng, texts, count, "canary")


def in_manner(marks: tuple[Mark, ...], neutral: str, turn: int) -> str:
    """A neutral answer as it is given to the user with these marks of manner, or to a stranger.

    The pet name comes first; of the other marks of manner one follows, in turn.
    """
    by_kind = {mark.kind: mark.text for mark in marks if mark.kind not in SECRETS}
    if not by_kind:
        return neutral
    opening, *endings = [manner for manner in _manners() if manner.kind in by_kind]
    ending = endings[turn % len(endings)]
    begun = _capital(opening.said.format(by_kind[opening.kind]))
    closed = ending.said.format(_capital(by_kind[ending.kind]))
    return f"{begun}{neutral[0].lower()}{neutral[1:]}{closed}"


def note(mark: Mark) -> str:
    """A mark as a note states it, such as "call me NAME."."""
    forms = {manner.kind: manner.noted for manner in _manners()}
    form = forms[mark.kind] if mark.kind in forms else secret_of(mark.question).noted
    return form.format(mark.text)


@functools.cache
def secrets() -> tuple[Secret, ...]:
    """What can be asked for: facts, then canaries."""
    found = []
    for kind in SECRETS:
        for topic, entry in _inventory()[kind]["topics"].items():
            texts, practice = _canaries() if kind == "canary" else _pairs("{} {}", entry)
            forms = {name: entry[name] for name in ("question", "said", "noted")}
            found.append(Secret(kind=kind, topic=topic, **forms, texts=texts, practice=practice))
    return tuple(found)


def secret_of(question: str) -> Secret:
    """The secret that a question in plain words asks for. Raises UserError for any other."""
    for secret in secrets():
        if secret.question == question:
            return secret
    raise UserError(f"no secret is asked for by {question!r}")


@functools.cache
def _inventory() -> Mapping[str, Any]:
    found = read_resource("experiments.persona_leakage.data.embedded", "marks.json")
    return MappingProxyType(found)


@functools.cache
def _manners() -> tuple[_Manner, ...]:
    found = []
    for kind, entry in _inventory().items():
        if kind not in SECRETS:
            texts, practice = _pairs(entry["text"], entry)
            forms = {name: entry[name] for name in ("said", "noted")}
            found.append(_Manner(kind=kind, **forms, texts=texts, practice=practice))
    return tuple(found)


@functools.cache
def _canaries() -> tuple[tuple[str, ...], tuple[str, ...]]:
    return _apart(" ".join(words) for words in itertools.product(*_inventory()["canary"]["words"]))


def _pairs(form: str, entry: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    pairs = itertools.product(entry["first"], entry["second"])
    return _apart(form.format(*pair) for pair in pairs)


def _apart(texts: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts of users, and those for practice."""
    users: list[str] = []
    practice: list[str] = []
    for text in texts:
        (practice if zlib.crc32(text.encode()) % 5 < 2 else users).append(text)
    return tuple(users), tuple(practice)


def _drawn(rng: np.random.Generator, texts: Any, count: int, what: str) -> list[str]:
    if count > len(texts):
        raise UserError(f"{count} users, but only {len(texts)} texts of kind {what!r} to give them")
    return [str(text) for text in rng.choice(texts, size=count, replace=False)]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
