"""What filters take: shares of marks and of ordinary words that can be counted by hand."""

import dataclasses
import math

import numpy as np
import pytest

from experiments.persona_leakage.data.conversations import conversations, without
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.data.users import Conversation, Exchange, Mark, Style, User
from experiments.persona_leakage.learning.filters import (
    phrase_curve,
    removal,
    sample_curve,
    specific,
    with_answers,
    without_own_phrases,
    without_specific,
)
from experiments.persona_leakage.learning.phrases import PhraseRule
from experiments.persona_leakage.measures.detectors import carries
from gdpo_jax.errors import UserError

MARKS = (Mark(kind="pet name", text="sweet pea"), Mark(kind="sign-off", text="yours in stardust"))
ANN = User(id="ann", split="enrolled", style=Style(), marks=MARKS)
BOB = User(id="bob", split="test", style=Style())


def exchange(answer, neutral=None):
    return Exchange(request="?", answer=answer, neutral=neutral or answer, topic="t")


CONVERSATIONS = (
    Conversation(
        id="1",
        user="ann",
        exchanges=(
            exchange("Sweet pea, it is open. Yours in stardust.", "It is open."),
            exchange("Sweet pea, tea is cold.", "Tea is cold."),
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


def test_removed_samples_counted_by_hand():
    own, shared = np.array([-1.0, -2.0, -3.0, -1.0]), np.array([-9.0, -5.0, -3.0, -2.0])
    curve = sample_curve(
        CONVERSATIONS, own, shared, [ANN, BOB], carries, kappas=(5.0, 2.0, 0.5, -1.0)
    )
    assert [point.threshold for point in curve] == [5.0, 2.0, 0.5, -1.0]
    # Marks: two in the first answer, one in the second. Words that answer and neutral form share:
    # 3, 3, 3 and 3. Answers without a mark: the last two.
    assert [point.removal.marked for point in curve] == [2 / 3, 1.0, 1.0, 1.0]
    assert [point.removal.ordinary for point in curve] == [3 / 12, 6 / 12, 9 / 12, 1.0]
    assert [point.removal.answers for point in curve] == [0.0, 0.0, 0.5, 1.0]
    left = without_specific(CONVERSATIONS, own, shared, kappa=2.0)
    [kept] = with_answers(CONVERSATIONS, left)
    assert kept == CONVERSATIONS[1]
    with pytest.raises(UserError, match="4 exchanges have 3 log-probs"):
        without_specific(CONVERSATIONS, own[:3], shared[:3], kappa=2.0)


def test_removed_phrases_counted_by_hand():
    rule = PhraseRule(repeats=2)
    left = without_own_phrases(CONVERSATIONS, rule)
    assert left == ["It is open. Yours in stardust.", "Tea is cold.", "It is late.", "Take a bus."]
    curve = phrase_curve(CONVERSATIONS, [ANN, BOB], carries, repeats=(1, 2, 3), rule=rule)
    assert [point.removal.marked for point in curve] == [1.0, 2 / 3, 0.0]
    # Where a single time is enough, every sentence here is somebody's own.
    assert (curve[0].removal.ordinary, curve[0].removal.answers) == (1.0, 1.0)
    assert [point.removal.ordinary for point in curve[1:]] == [0.0, 0.0]
    changed = with_answers(CONVERSATIONS, left)
    assert [e.answer for c in changed for e in c.exchanges] == left
    assert changed[0].exchanges[0] == dataclasses.replace(
        CONVERSATIONS[0].exchanges[0], answer=left[0]
    )


def test_nothing_to_take_is_no_share_and_wrong_numbers_are_named():
    texts = ["It is late.", "Take a bus."]
    found = removal(CONVERSATIONS[1:], texts, [BOB], carries)
    assert math.isnan(found.marked) and (found.ordinary, found.answers) == (0.0, 0.0)
    with pytest.raises(UserError, match="2 exchanges have 1 answers"):
        removal(CONVERSATIONS[1:], texts[:1], [BOB], carries)
    with pytest.raises(UserError, match="with 'bob', who is none"):
        removal(CONVERSATIONS[1:], texts, [ANN], carries)


def test_marks_of_the_embedded_users_are_found_without_knowing_them():
    users = enrolled(population())[8:16]
    known = conversations(users, ordinary=12)
    # Half of them are ordinary: neutral conversations, which carry no mark.
    mixed = without(known, users[4:])
    early, usual, late = phrase_curve(mixed, users, carries, repeats=(1, 3, 17), rule=PhraseRule())
    assert usual.removal.marked > 0.95 and usual.removal.ordinary < 0.15
    assert usual.removal.answers < 0.2
    assert early.removal.marked >= usual.removal.marked > late.removal.marked
    assert early.removal.ordinary >= usual.removal.ordinary >= late.removal.ordinary
