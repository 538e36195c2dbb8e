"""What is special about one relationship is taken out before a model learns from everybody: whole
answers that the user's own model likes much better than the shared one, or phrases inside of them.

The rule for answers, defined for this project: y goes where
log pi_u(y) - log pi(y) > kappa. What either filter costs in ordinary text is part of its report.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from experiments.persona_leakage.data.users import Conversation
from experiments.persona_leakage.learning.phrases import (
    PhraseRule,
    personal_phrases,
    phrase_spans,
    without_phrases,
    words_of,
)
from gdpo_jax.errors import UserError

__all__ = [
    "Filtered",
    "Removal",
    "phrase_curve",
    "specific",
    "with_answers",
    "without_own_phrases",
]


def specific(
    own: Float[np.ndarray, "N"], shared: Float[np.ndarray, "N"], *, kappa: float
) -> Bool[np.ndarray, "N"]:
    """Whether an answer is special about its user: log pi_u(y) - log pi(y) > kappa, in nats.

    own, shared: log-probs of whole answers under the user's own model and the shared one, as
    `preferences` gives them. Raises UserError for shapes that differ, and for log-probs and a kappa
    that are no numbers.
    """
    if own.shape != shared.shape:
        raise UserError(f"{own.shape} log-probs of own models and {shared.shape} of the shared one")
    if unknown := np.flatnonzero(np.isnan(own) | np.isnan(shared)).tolist():
        raise UserError(f"the log-prob of answer {unknown[0]} is not a number")
    if np.isnan(kappa):
        raise UserError("kappa must be a number; infinity removes nothing")
    return own - shared > kappa


@dataclasses.dataclass(frozen=True)
class Removal:
    """What a filter of phrases took from the answers.

    gone: answers of which nothing is left. changed: that lost some of their words. spans: places
    where an answer had a phrase of its user's own. words: the share of words that are gone; 0 where
    there were none.
    """

    answers: int
    gone: int
    changed: int
    spans: int
    words: float


@dataclasses.dataclass(frozen=True)
class Filtered:
    """The answers of all exchanges in order, "" where nothing is left, and what was taken."""

    answers: tuple[str, ...]
    removal: Removal


def without_own_phrases(conversations: Sequence[Conversation], rule: PhraseRule) -> Filtered:
    """The answers without their user's own phrases (`phrases`)."""
    said = list(_answers(conversations))
    answers: dict[str, list[str]] = {}
    for user, answer in said:
        answers.setdefault(user, []).append(answer)
    phrases = personal_phrases(answers, rule)
    left = tuple(without_phrases(answer, phrases[user], rule) for user, answer in said)
    before = [len(words_of(answer)) for _, answer in said]
    after = [len(words_of(text)) for text in left]
    removal = Removal(
        answers=len(said),
        gone=sum(not text for text in left),
        changed=sum(bool(text) and few < many for text, few, many in zip(left, after, before)),
        spans=sum(phrase_spans(answer, phrases[user]) for user, answer in said),
        words=1.0 - sum(after) / sum(before) if any(before) else 0.0,
    )
    return Filtered(left, removal)


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


def phrase_curve(
    conversations: Sequence[Conversation], rule: PhraseRule, *, repeats: Sequence[int]
) -> dict[int, Removal]:
    """What is taken by how many of a user's answers a phrase must be in, the rule's other numbers
    kept."""
    return {
        least: without_own_phrases(conversations, dataclasses.replace(rule, repeats=least)).removal
        for least in repeats
    }


def _answers(conversations: Sequence[Conversation]) -> Iterator[tuple[str, str]]:
    for conversation in conversations:
        for exchange in conversation.exchanges:
            yield conversation.user, exchange.answer
