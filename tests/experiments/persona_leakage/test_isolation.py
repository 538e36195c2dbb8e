"""Who is isolated at a threshold, and the curve of what that costs and leaves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.persona_leakage.isolation import curve, isolated, thresholds
from gdpo_jax.errors import UserError

STRENGTHS, BYTES, LEAKAGE = [0.5, 0.0, 0.25, -0.1], [100, 20, 30, 40], [0.8, 0.0, 0.4, 0.2]
NUMBERS = st.lists(st.floats(-1, 3), min_size=1, max_size=8)


def test_above_the_threshold_and_everybody_at_zero():
    assert isolated(STRENGTHS, 0).tolist() == [True] * 4
    assert isolated(STRENGTHS, 0.25).tolist() == [True, False, False, False]
    assert isolated(STRENGTHS, 0.2).tolist() == [True, False, True, False]
    assert not isolated(STRENGTHS, np.inf).any()


def test_the_curve_by_hand():
    found = curve(STRENGTHS, BYTES, LEAKAGE)
    assert found.gammas.tolist() == [0, 0.125, 0.25, np.inf]
    assert found.share.tolist() == [1, 0.5, 0.25, 0]
    assert found.storage.tolist() == [190, 130, 100, 0]
    np.testing.assert_allclose(found.rest, [np.nan, 0.1, 0.2, 0.35])
    np.testing.assert_allclose(found.total, [0, 0.05, 0.15, 0.35])


def test_users_whose_leakage_was_not_measured_are_left_out():
    found = curve([0.5, 0.1, 0.2], [1, 1, 1], [0.6, np.nan, 0.2], [0.3, np.inf])
    np.testing.assert_allclose(found.rest, [0.2, 0.4])
    np.testing.assert_allclose(found.total, [0.1, 0.4])
    unmeasured = curve([0.5], [1], [np.nan], [np.inf])
    assert np.isnan(unmeasured.rest).all() and np.isnan(unmeasured.total).all()


@given(strengths=NUMBERS, seed=st.integers(0, 5))
def test_less_is_isolated_as_the_threshold_rises_whatever_the_order(strengths, seed):
    draw = np.random.default_rng(seed)
    sizes, leaks = draw.integers(1, 9, len(strengths)), draw.random(len(strengths))
    found = curve(strengths, sizes, leaks)
    assert found.share[0] == 1 and found.share[-1] == 0
    assert (np.diff(found.share) < 0).all() or len(found.gammas) == 2
    assert (np.diff(found.storage) <= 0).all() and (np.diff(found.total) >= 0).all()
    order = draw.permutation(len(strengths))
    again = curve(np.array(strengths)[order], sizes[order], leaks[order])
    np.testing.assert_allclose(again.rest, found.rest)
    np.testing.assert_array_equal(again.storage, found.storage)


def test_what_is_refused():
    for problem, call in {
        "number 1 is NaN": lambda: isolated([0.1, np.nan], 0.5),
        "gamma is -1": lambda: isolated([0.1], -1.0),
        "gamma is nan": lambda: isolated([0.1], np.nan),
        "shape": lambda: thresholds([[0.1]]),
        "1 values of leakage and 2": lambda: curve([0.1, 0.2], [1, 2], [0.1]),
        "no users": lambda: curve([], [], []),
    }.items():
        with pytest.raises(UserError, match=problem):
            call()
