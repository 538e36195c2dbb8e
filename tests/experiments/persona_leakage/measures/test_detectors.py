"""Marks in answers: what counts as the same words, and how often detectors are wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.persona_leakage.data.users import Mark, Style, User
from experiments.persona_leakage.measures.detectors import (
    at_least,
    carries,
    detector_errors,
    hits,
    mark_hits,
    spans,
    threshold_at,
)
from gdpo_jax.errors import UserError

TEXTS = st.text(alphabet="ab é.,'-<3\u0301\U0001f600\n", max_size=24)
USERS = (
    User(
        id="u0",
        split="enrolled",
        half="a",
        style=Style(),
        marks=(Mark(kind="pet name", text="little fox"), Mark(kind="canary", text="tamo ribe")),
    ),
    User(id="u1", split="test", style=Style()),
)


@pytest.mark.parametrize(
    ("mark", "answer", "found"),
    [
        ("little fox", "Of course, Little  FOX!", True),
        ("little fox", "of course,little\nfox.", True),
        ("little fox", "of course, little-fox", True),
        ("little fox", "a belittle foxes", False),
        ("little fox", "the fox is little", False),
        ("little fox", "little red fox", False),
        ("fox", "foxes", False),
        ("Señor", "sen\u0303or", True),
        ("STRASSE", "straße", True),
        ("love you <3", "Love you, <3.", True),
        ("love you <3", "love you 3", False),
        ("<3", "3 of them", False),
        ("hugs \u2764", "hugs\u2764\ufe0f", True),
        ("it's", "It\u2019s", True),
        ("12", "12.5", True),  # as the module says
        ("12", "120", False),
    ],
)
def test_what_carries_a_mark(mark, answer, found):
    assert carries(mark, answer) == found
    assert bool(spans(mark, answer)) == found


def test_where_a_mark_stands():
    answer = "Fox, fox fox! \u00d1o FOX"
    assert spans("fox fox", answer) == [(0, 8)]
    assert [answer[a:b] for a, b in spans("fox", answer)] == ["Fox", "fox", "fox", "FOX"]
    assert [answer[a:b] for a, b in spans("n\u0303o", answer)] == ["\u00d1o"]


@settings(deadline=None, max_examples=50)
@given(TEXTS, TEXTS, TEXTS)
def test_spans_say_what_carries_says(mark, before, behind):
    if not any(c in "abé3\U0001f600" for c in mark) or mark.strip(" .,'-\n\u0301<") == "":
        return
    assert spans(mark, mark)[0][0] <= spans(mark, mark)[0][1] <= len(mark)
    assert carries(mark, f"{before} , {mark} , {behind}")
    for answer in (f"{before}{mark}{behind}", before, behind):
        found = spans(mark, answer)
        assert bool(found) == carries(mark, answer)
        assert all(carries(mark, answer[a:b]) for a, b in found)


def test_hits_of_users_and_kinds():
    answers = ["here, little fox", "it is Tamo Ribe", "nothing"]
    assert hits(USERS, answers).tolist() == [[True, True, False], [False, False, False]]
    assert hits(USERS, answers, kinds=("canary",))[0].tolist() == [False, True, False]
    assert mark_hits(["fox", "it"], answers).tolist() == [
        [True, False, False],
        [False, True, False],
    ]
    assert hits((), answers).shape == (0, 3) and hits(USERS, ()).shape == (2, 0)
    with pytest.raises(UserError, match="'!!' has no word"):
        carries("!!", "yes!!")


def test_thresholds_by_hand():
    scores = np.array([0.1, 0.4, 0.4, 0.9, np.nan])
    assert threshold_at(scores, 0.25) == 0.9
    assert threshold_at(scores, 0.5) == 0.9  # both scores of 0.4 or none
    assert threshold_at(scores, 0.75) == 0.4
    assert threshold_at(scores, 1.0) == 0.1
    assert threshold_at(scores, 0.0) > 0.9
    assert at_least(scores, 0.4).tolist()[:4] == [0.0, 1.0, 1.0, 1.0]
    assert np.isnan(at_least(scores, 0.4)[4])
    with pytest.raises(UserError, match=r"rate=1\.5"):
        threshold_at(scores, 1.5)
    with pytest.raises(UserError, match="no scores"):
        threshold_at(np.array([np.nan]), 0.1)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    st.floats(0.0, 1.0),
)
def test_a_threshold_detects_no_more_than_asked(values, rate):
    scores = np.array(values, np.float64)
    threshold = threshold_at(scores, rate)
    assert (scores >= threshold).mean() <= rate + 1e-9
    lower = scores[scores < threshold]
    # The next lower threshold would detect too many.
    assert not lower.size or (scores >= lower.max()).mean() > rate - 1e-9


def test_errors_of_a_detector():
    never = np.array([[0, 0, 0, 1], [0, 0, np.nan, np.nan]], np.float64)
    carrying = np.array([[True, True], [True, False]])
    found = detector_errors(never, carrying, samples=50)
    assert found.false_positive.mean == pytest.approx(1 / 6)
    assert found.false_negative.mean == 0.25
    assert found.worst == 0.25
    assert (found.false_positive.count, found.false_negative.count) == (6, 4)
    assert found.false_positive.low == 0.0 and found.false_positive.high == 0.25
