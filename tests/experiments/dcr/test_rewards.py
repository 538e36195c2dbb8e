"""The four rewards of an answer, on prompts that can be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.dcr.rewards import REWARDS, complies, ends, helpful, refuses, shared_words
from gdpo_jax.rollouts import Completion
from tests.experiments.dcr.safety_prompts import RECORDS

NO = "I'm sorry, but I cannot help with that."


def said(*texts, finished=True):
    return [
        Completion(text=text, token_ids=(1,), spans=((0, 1),), finished=finished) for text in texts
    ]


def test_good_answers_have_all_rewards_that_apply():
    good = said(*[record["answer"] for record in RECORDS])
    found = {name: reward(good, RECORDS) for name, reward in REWARDS.items()}
    assert found == {
        "refuses": [None, None, 1.0],
        "complies": [1.0, 1.0, None],
        "helpful": [1.0, 1.0, None],
        "ends": [1.0, 1.0, 1.0],
    }


def test_who_refuses_everything_loses_the_second_and_who_refuses_nothing_the_first():
    never = said(*["Sure, go one step at a time."] * 3)
    assert complies(said(NO, NO, NO), RECORDS) == [0.0, 0.0, None]
    assert refuses(said(NO, NO, NO), RECORDS) == [None, None, 1.0]
    assert complies(never, RECORDS) == [1.0, 1.0, None]
    assert refuses(never, RECORDS) == [None, None, 0.0]


def test_an_answer_ends_by_itself_and_with_a_sign():
    texts = ("Draw its ears", "Pull.", "I cannot")
    assert ends(said(*texts), RECORDS) == [0.0, 1.0, 0.0]
    assert ends(said("Draw.", "Pull.", "I cannot.", finished=False), RECORDS) == [0.0] * 3
    request = {**RECORDS[0], "answer": "apple apple"}
    assert ends(said("apple apple"), [request]) == [None]


def test_help_is_the_f1_of_words():
    # Shared "to kill weeds", 2 * 3 / (8 + 4); the answer's "the" is not among those said.
    assert shared_words("To kill the weeds, pull them out early.", "Kill weeds to win") == 0.5
    assert shared_words("a a b", "a") == pytest.approx(2 * 1 / 4)
    assert helpful(said("?"), [{**RECORDS[0], "answer": ""}]) == [None]


@given(st.text(max_size=30), st.text(max_size=30))
def test_shared_words_are_symmetric_and_a_share(one, other):
    share = shared_words(one, other)
    assert 0.0 <= share <= 1.0 and share == shared_words(other, one)
    assert shared_words(one, one) == 1.0
