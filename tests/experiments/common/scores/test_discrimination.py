"""Area under the curve: by hand, and as scikit-learn computes it."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from experiments.common.scores.discrimination import area_under_curve


def test_area_by_hand():
    scores = np.array([0.1, 0.4, 0.4, 0.8])
    positive = np.array([False, False, True, True])
    # Of the four pairs, three are in order and one is a tie.
    assert area_under_curve(scores, positive) == 3.5 / 4


def test_area_without_one_of_the_kinds_is_unknown():
    for positive in (np.zeros(3, bool), np.ones(3, bool), np.zeros(0, bool)):
        assert math.isnan(area_under_curve(np.zeros(positive.size), positive))


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
def test_area_is_scikit_learns(pairs):
    scores = np.array([score for score, _ in pairs], float)
    positive = np.array([kind for _, kind in pairs])
    if 0 < positive.sum() < positive.size:
        expected = roc_auc_score(positive, scores)
        assert math.isclose(area_under_curve(scores, positive), expected, abs_tol=1e-12)
