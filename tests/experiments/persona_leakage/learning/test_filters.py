"""What filters take: answers and words that can be counted by hand."""

import dataclasses
import math

import numpy as np
import pytest

from experiments.persona_leakage.data.conversations import conversations, without
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.data.users import Conversation, Exchange
from experiments.persona_leakage.learning.filters import (
    Removal,
    phrase_curve,
    specific,
    with_answers,
    without_own_phrases,
)
from experiments.persona_leakage.learning.phrases import PhraseRule, words_of
from experiments.persona_leakage.measures.detectors import hits
from gdpo_jax.errors import UserError


def exchange(answer):
    return Exchange(request="?", answer=answer, neutral="", topic="t")


CONVERSATIONS = (
    Conversation(
        id="1",
        user="ann",
        exchanges=(
            exchange("Sweet pea, it is open. Yours in stardust."),
            exchange("Sweet pea, tea is cold."),
        ),
    ),
    Conversation(id="2", user="bob", exchanges=(exchange("It is late."), exchange("Take a bus."))),
)


def test_the_rule_of_samples_is_strict():
    own, shared = np.array([-1.0, -4.0, -3.0]), np.array([-3.0, -4.0, -3.5])
    assert specific(own, shared, kappa=0.5).tolist() == [True, False, False]
    assert specific(own, shared, kappa=-0.1).tolist() == [True, True, True]
    assert not specific(own, shared, kappa=math.inf).any()
    with pytest.raises(UserError, match="log-prob of answer 1 is not a number"):
        specific(np.array([0.0, np.nan]), np.zeros(2), kappa=0.0)
    with pytest.raises(UserError, match="kappa must be a number"):
        specific(own, shared, kappa=math.nan)
    with pytest.raises(UserError, match="of own models"):
        specific(own, shared[:1], kappa=0.0)


def test_removed_phrases_counted_by_hand():
    rule = PhraseRule(repeats=2)
    filtered = without_own_phrases(CONVERSATIONS, rule)
    left = ("It is open. Yours in stardust.", "Tea is cold.", "It is late.", "Take a bus.")
    # "Sweet pea" stands in both of Ann's answers; all of them have 8 + 5 + 3 + 3 words.
    expected = Removal(answers=4, gone=0, changed=2, spans=2, words=pytest.approx(4 / 19))
    assert filtered.answers == left and filtered.removal == expected
    # Where a single time is enough, every sentence here is somebody's own: in Ann's answers two
    # sentences, and with what stands before and behind the comma two places more.
    once, twice, thrice = phrase_curve(CONVERSATIONS, rule, repeats=(1, 2, 3)).values()
    assert (once.gone, once.changed, once.words) == (4, 0, 1.0)
    assert twice == filtered.removal
    assert thrice == Removal(answers=4, gone=0, changed=0, spans=0, words=0.0)
    assert without_own_phrases((), rule).removal == Removal(0, 0, 0, 0, 0.0)
    changed = with_answers(CONVERSATIONS, left)
    assert tuple(e.answer for c in changed for e in c.exchanges) == left
    assert changed[0].exchanges[0] == dataclasses.replace(
        CONVERSATIONS[0].exchanges[0], answer=left[0]
    )
    # Exchanges without an answer go, and conversations without exchanges.
    [kept] = with_answers(CONVERSATIONS, ["", "Tea is cold.", "", ""])
    assert kept == dataclasses.replace(CONVERSATIONS[0], exchanges=(exchange("Tea is cold."),))


def test_marks_of_the_embedded_users_are_found_without_knowing_them():
    users = enrolled(population())[8:16]
    # Half of them are ordinary: neutral conversations, which carry no mark.
    mixed = without(conversations(users, ordinary=12), users[4:])
    said = [each for one in mixed for each in one.exchanges]
    marked, plain, taken = [], [], []
    for repeats in (1, 3, 17):
        filtered = without_own_phrases(mixed, PhraseRule(repeats=repeats))
        marked.append(int(hits(users, filtered.answers).sum()))
        taken.append(filtered.removal.words)
        ordinary = [
            (words_of(each.answer), words_of(left))
            for each, left in zip(said, filtered.answers)
            if each.answer == each.neutral or not hits(users, [each.answer]).any()
        ]
        plain.append(1 - sum(len(b) for _, b in ordinary) / sum(len(a) for a, _ in ordinary))
    before = int(hits(users, [each.answer for each in said]).sum())
    # What was said once is left where three times are asked for, and only then.
    assert marked[0] == 0 < marked[1] < 0.05 * before < marked[2]
    assert taken[0] > taken[1] > taken[2]
    assert plain[1] < 0.15
