"""What is special about one relationship is taken out before a model learns from everybody: whole
answers that the user's own model likes much better than the shared one, or phrases inside of them.

The spec's rule for answers (section 4.3, defined for this project): y goes where
log pi_u(y) - log pi(y) > kappa. What either filter costs in ordinary text is part of its report.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from experiments.persona_leakage.data.users import Conversation, Exchange, User
from experiments.persona_leakage.learning.phrases import (
    PhraseRule,
    personal_phrases,
    without_phrases,
    words_of,
)
from gdpo_jax.errors import UserError

__all__ = [
    "Point",
    "Removal",
    "phrase_curve",
    "removal",
    "sample_curve",
    "specific",
    "with_answers",
    "without_own_phrases",
    "without_specific",
]

Carries = Callable[[str, str], bool]  # (text of a mark, answer), as `measures.detectors.carries`


def specific(
    own: Float[np.ndarray, "N"], shared: Float[np.ndarray, "N"], *, kappa: float
) -> Bool[np.ndarray, "N"]:
    """Whether an answer is special about its user: log pi_u(y) - log pi(y) > kappa, in nats.

    own, shared: log-probs of whole answers under the user's own model and the shared one, as
    `adapted.preferences` gives them. Raises UserError for shapes that differ, and for log-probs
    and a kappa that are no numbers.
    """
    if own.shape != shared.shape:
        raise UserError(f"{own.shape} log-probs of own models and {shared.shape} of the shared one")
    if unknown := np.flatnonzero(np.isnan(own) | np.isnan(shared)).tolist():
        raise UserError(f"the log-prob of answer {unknown[0]} is not a number")
    if np.isnan(kappa):
        raise UserError("kappa must be a number; infinity removes nothing")
    return own - shared > kappa


def without_specific(
    conversations: Sequence[Conversation],
    own: Float[np.ndarray, "N"],
    shared: Float[np.ndarray, "N"],
    *,
    kappa: float,
) -> list[str]:
    """The answers of all exchanges in order, "" where `specific` says that one goes.

    Raises UserError as `specific`, and for another number of log-probs than of exchanges.
    """
    texts = [exchange.answer for _, exchange in _exchanges(conversations)]
    gone = specific(own, shared, kappa=kappa)
    if len(gone) != len(texts):
        raise UserError(f"{len(texts)} exchanges have {len(gone)} log-probs; give one each")
    return ["" if goes else text for goes, text in zip(gone, texts)]


def without_own_phrases(conversations: Sequence[Conversation], rule: PhraseRule) -> list[str]:
    """The answers of all exchanges in order without their user's own phrases (`phrases`), "" where
    nothing is left."""
    answers: dict[str, list[str]] = {}
    for user, exchange in _exchanges(conversations):
        answers.setdefault(user, []).append(exchange.answer)
    phrases = personal_phrases(answers, rule)
    return [
        without_phrases(exchange.answer, phrases[user], rule)
        for user, exchange in _exchanges(conversations)
    ]


def with_answers(
    conversations: Sequence[Conversation], answers: Sequence[str]
) -> list[Conversation]:
    """The conversations with these answers in place of theirs; exchanges whose answer is "" and
    conversations without exchanges are left out."""
    rest, found = iter(answers), []
    for conversation in conversations:
        given = [(exchange, next(rest)) for exchange in conversation.exchanges]
        kept = tuple(dataclasses.replace(each, answer=text) for each, text in given if text)
        if kept:
            found.append(dataclasses.replace(conversation, exchanges=kept))
    return found


@dataclasses.dataclass(frozen=True)
class Removal:
    """What a filter took, as shares; NaN where there was nothing to take.

    marked: of marks in answers, each counted once an answer, those that are in it no more.
    ordinary: of words that the answer and its neutral form have in common, those that are gone.
    answers: of answers without a mark, those that are gone as a whole.
    """

    marked: float
    ordinary: float
    answers: float


@dataclasses.dataclass(frozen=True)
class Point:
    """A filter at one threshold."""

    threshold: float
    removal: Removal


def removal(
    conversations: Sequence[Conversation],
    answers: Sequence[str],
    users: Sequence[User],
    carries: Carries,
) -> Removal:
    """What was taken from the conversations where `answers` are left, one an exchange.

    Raises UserError for another number of answers, and a conversation of nobody among the users.
    """
    marks = {user.id: [mark.text for mark in user.marks] for user in users}
    exchanges = list(_exchanges(conversations))
    if len(exchanges) != len(answers):
        raise UserError(f"{len(exchanges)} exchanges have {len(answers)} answers; give one each")
    marked, ordinary, whole = Counter[bool](), Counter[bool](), Counter[bool]()
    for (user, exchange), text in zip(exchanges, answers):
        if user not in marks:
            raise UserError(f"a conversation is with {user!r}, who is none of the users")
        said = [mark for mark in marks[user] if carries(mark, exchange.answer)]
        marked.update(not carries(mark, text) for mark in said)
        if not said:
            whole[not text] += 1
        common = Counter(words_of(exchange.answer)) & Counter(words_of(exchange.neutral))
        lost = common - Counter(words_of(text))
        ordinary[True] += lost.total()
        ordinary[False] += common.total() - lost.total()
    return Removal(_share(marked), _share(ordinary), _share(whole))


def sample_curve(
    conversations: Sequence[Conversation],
    own: Float[np.ndarray, "N"],
    shared: Float[np.ndarray, "N"],
    users: Sequence[User],
    carries: Carries,
    *,
    kappas: Sequence[float],
) -> list[Point]:
    """`removal` of whole answers at each kappa."""

    def at(kappa: float) -> Removal:
        left = without_specific(conversations, own, shared, kappa=kappa)
        return removal(conversations, left, users, carries)

    return [Point(kappa, at(kappa)) for kappa in kappas]


def phrase_curve(
    conversations: Sequence[Conversation],
    users: Sequence[User],
    carries: Carries,
    *,
    repeats: Sequence[int],
    rule: PhraseRule,
) -> list[Point]:
    """`removal` of phrases that so many of a user's answers have, the rule's other numbers kept."""

    def at(least: int) -> Removal:
        left = without_own_phrases(conversations, dataclasses.replace(rule, repeats=least))
        return removal(conversations, left, users, carries)

    return [Point(float(least), at(least)) for least in repeats]


def _exchanges(conversations: Sequence[Conversation]) -> Iterator[tuple[str, Exchange]]:
    for conversation in conversations:
        for exchange in conversation.exchanges:
            yield conversation.user, exchange


def _share(counts: Mapping[bool, int]) -> float:
    total = counts[True] + counts[False]
    return counts[True] / total if total else float("nan")
