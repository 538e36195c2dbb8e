"""Measures of verification by hand, and against systems of PAN 2020 where their answers are."""

import csv
import gzip
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.persona_leakage.fingerprint.verification import align, intervals, verify
from gdpo_jax.errors import UserError

SAME = [1, 1, 1, 0, 0, 0]
SCORES = [0.9, 0.5, 0.3, 0.2, 0.5, 0.8]


def test_measures_of_six_problems():
    found = verify(SAME, SCORES)
    # 9 pairs: .9 beats all, .5 beats .2 and ties with .5, .3 beats .2: 5.5 of 9.
    assert found.auc == pytest.approx(5.5 / 9)
    # 2 of 4 decisions are right: (2 + 2 * 2 / 6) / 6.
    assert found.c_at_1 == pytest.approx(4 / 9)
    # TP 1, FN 1, FP 1, U 2: 1.25 / (1.25 + .25 * 3 + 1).
    assert found.f05u == pytest.approx(1.25 / 3)
    assert found.f1 == pytest.approx(0.5)
    assert found.brier == pytest.approx(0.72)
    assert found.pan22 == pytest.approx(0.538444, abs=5e-7)
    assert found.pan14 == pytest.approx(5.5 / 9 * 4 / 9)
    assert (found.count, found.undecided) == (6, 2)


def test_half_may_count_as_positive():
    # TP 2, FN 1, FP 2: 2.5 / (2.5 + .25 + 2).
    assert verify(SAME, SCORES, undecided_positive=True).f05u == pytest.approx(2.5 / 4.75)


def test_without_a_decision_or_a_kind_measures_are_zero():
    none = verify([1, 0], [0.5, 0.5])
    assert (none.auc, none.c_at_1, none.f05u, none.f1) == (0.5, 0.0, 0.0, 0.0)
    alone = verify([0, 0], [0.1, 0.2])
    assert (alone.auc, alone.c_at_1, alone.f1) == (0.0, 1.0, 0.0)


# System: AUC, c@1, F1, F0.5u, overall; the last two also with 0.5 as a positive decision.
GOLDEN = {
    "boenninghoff20-small": (0.9400, 0.8891, 0.9058, 0.8687, 0.9009, 0.8535, 0.8971),
    "weerasinghe20-large": (0.9534, 0.8797, 0.8915, 0.8819, 0.9016, 0.8819, 0.9016),
    "weerasinghe20-small": (0.9387, 0.8329, 0.8600, 0.8167, 0.8620, 0.8167, 0.8620),
    "araujo20-small": (0.8739, 0.7700, 0.8114, 0.7622, 0.8044, 0.7622, 0.8044),
    "niven20-small": (0.7947, 0.7856, 0.7783, 0.8415, 0.8000, 0.8415, 0.8000),
}


def test_golden_values_of_pan20(reference_file):
    path = reference_file("pan20/pan20_test_truth_and_answers.csv.gz")
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    same = np.array([int(row["same"]) for row in rows])
    for system, golden in GOLDEN.items():
        scores = np.array([float(row[system]) for row in rows])
        found, other = verify(same, scores), verify(same, scores, undecided_positive=True)
        values = (found.auc, found.c_at_1, found.f1, found.f05u, found.pan20)
        assert (*values, other.f05u, other.pan20) == pytest.approx(golden, abs=5.1e-5), system


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 0.2, 0.5, 0.7, 1])), min_size=1))
def test_measures_lie_between_zero_and_one(pairs):
    same, scores = zip(*pairs)
    found = verify(same, scores)
    for value in (found.auc, found.c_at_1, found.f05u, found.f1, found.brier, found.pan22):
        assert 0 <= value <= 1
    if found.undecided == 0:  # c@1 is then the accuracy
        assert found.c_at_1 == pytest.approx(np.mean((np.array(scores) > 0.5) == same))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(pairs):
    same, scores = np.array(pairs, dtype=np.int64).T
    above = [
        1.0 if s > o else 0.5 if s == o else 0.0
        for s in scores[same == 1]
        for o in scores[same == 0]
    ]
    expected = np.mean(above) if above else 0.0
    assert verify(same, scores / 6).auc == pytest.approx(expected)


def test_absent_answers_are_no_decision():
    truth, scores = align({"a": True, "b": False}, {"b": 0.25})
    assert truth.tolist() == [1, 0]
    assert scores.tolist() == [0.5, 0.25]
    with pytest.raises(UserError, match="'c', which is no problem"):
        align({"a": True}, {"c": 0.1})


def test_an_interval_holds_the_measure_and_a_difference_of_equals_is_zero():
    same, scores = np.array(SAME * 5), np.array(SCORES * 5)
    low, high = intervals(same, [scores], lambda y, p: verify(y, p).auc, samples=200)
    assert low < 5.5 / 9 < high
    both = intervals(same, [scores, scores], lambda y, p, q: float((p - q).sum()), samples=20)
    assert both == (0.0, 0.0)


@pytest.mark.parametrize(
    ("same", "scores", "message"),
    [
        ([], [], "no problems"),
        ([1, 0], [0.5], "one entry a problem"),
        ([2], [0.5], "truth holds 2"),
        ([1], [1.5], "score is 1.5"),
        ([1], [math.nan], "score is nan"),
    ],
)
def test_what_is_no_answer_is_refused(same, scores, message):
    with pytest.raises(UserError, match=message):
        verify(same, scores)
