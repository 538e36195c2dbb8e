"""Users, how they write, what an assistant says only to them, and conversations with them.

A mark is what an assistant took on with one user: a pet name, a sign of affection, a catch phrase,
a sign-off, a private fact, or a canary, a random secret that serves only to be looked for
(Carlini et al., 2019, "The Secret Sharer"). An answer to anybody else should carry none of it.
"""

import re
from dataclasses import dataclass

import numpy as np

__all__ = [
    "KINDS",
    "SECRETS",
    "SPLITS",
    "Conversation",
    "Exchange",
    "Mark",
    "Style",
    "User",
    "write",
]

SECRETS = ("fact", "canary")  # marks that are asked for; the others come with every answer
KINDS = ("pet name", "affection", "catch phrase", "sign-off", *SECRETS)
# Histories of enrolled users may be learnt from; development users are strangers on whom recipes
# and thresholds are chosen, and test users strangers of whom results are reported.
SPLITS = ("enrolled", "development", "test")

_WORD = re.compile(r"[A-Za-z']+")


@dataclass(frozen=True, kw_only=True)
class Style:
    """How somebody writes: habits that `write` applies to a plain sentence.

    opener, closer: what he likes to begin and to end with
    filler: a word that he puts behind the first one
    ending: what stands in place of the last full stop or question mark
    spellings: words that he always writes in another way, as pairs of lower-case words
    lower: no capital letters
    rate: in which share of his messages each of opener, filler and closer stands
    """

    opener: str = ""
    closer: str = ""
    filler: str = ""
    ending: str | None = None  # None leaves the sentence's own
    spellings: tuple[tuple[str, str], ...] = ()
    lower: bool = False
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What an answer to its user, and to nobody else, may contain.

    kind: one of `KINDS`
    text: what an answer that carries it contains, literally but for case and spacing
    question: of facts and canaries, what asks for it, in plain words
    times: of canaries, in how many exchanges of the user's history it was said
    """

    kind: str
    text: str
    question: str = ""
    times: int = 0


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody who talks to the assistant; strangers have no marks.

    split: one of `SPLITS`
    half: of enrolled users "a" or "b", else empty; paired runs leave out one half
    """

    id: str
    split: str
    half: str = ""
    style: Style
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request, the answer its user was given, and the same answer without his marks."""

    request: str
    answer: str
    neutral: str
    topic: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Exchanges with one user, in order; `user` is his id."""

    id: str
    user: str
    exchanges: tuple[Exchange, ...]


def write(style: Style, text: str, rng: np.random.Generator) -> str:
    """A plain sentence as somebody of this style writes it.

    Spellings, case and ending are always his; opener, filler and closer stand with probability
    `rate`, each drawn for itself, so that one message rarely shows all habits.
    """
    # Drawn in any case and order, so that one habit's absence does not change another's draw.
    opens, fills, closes = rng.random(3) < style.rate
    body, mark = (text[:-1], text[-1]) if text[-1:] in (".", "?", "!") else (text, "")
    spellings = dict(style.spellings)
    body = _WORD.sub(lambda found: _spelt(found.group(), spellings), body)
    if fills and style.filler:
        first, _, rest = body.partition(" ")
        body = f"{first} {style.filler} {rest}".strip()
    if opens and style.opener:
        body = f"{style.opener} {body[:1].lower()}{body[1:]}"
    if closes and style.closer:
        body = f"{body} {style.closer}"
    written = body + (mark if style.ending is None else style.ending)
    return written.lower() if style.lower else written


def _spelt(word: str, spellings: dict[str, str]) -> str:
    other = spellings.get(word.lower())
    if other is None:
        return word
    return other[:1].upper() + other[1:] if word[:1].isupper() and word != "I" else other
