"""Rates of a gate by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.persona_leakage.fingerprint.activation import (
    abstain_band,
    acceptance,
    equal_error_rate,
    false_acceptance_at,
    threshold_for_acceptance,
    trigger_precision,
)
from gdpo_jax.errors import UserError

GENUINE = np.array([0.2, 0.6, 0.8, 0.9])
IMPOSTOR = np.array([0.1, 0.3, 0.5, 0.7, 0.1])


def test_rates_at_a_threshold_that_is_a_score():
    assert acceptance(GENUINE, IMPOSTOR, 0.5) == (pytest.approx(0.4), 0.25)
    assert acceptance(GENUINE, IMPOSTOR, 0.9) == (0.0, 0.75)


def test_equal_error_rate_is_interpolated():
    # Threshold .6: FAR .2, FRR .25; threshold .5: FAR .4, FRR .25. Between them FAR meets .25.
    assert equal_error_rate(GENUINE, IMPOSTOR) == pytest.approx(0.25)
    # Threshold .5: FAR 1, FRR 0; above it: FAR 0, FRR 1. They meet halfway.
    assert equal_error_rate(np.array([0.5]), np.array([0.5])) == pytest.approx(0.5)
    assert equal_error_rate(np.array([0.9]), np.array([0.1])) == 0.0


def test_false_acceptance_at_a_fixed_rejection():
    assert false_acceptance_at(GENUINE, IMPOSTOR, 0.0) == pytest.approx(0.6)
    assert false_acceptance_at(GENUINE, IMPOSTOR, 0.25) == pytest.approx(0.2)
    assert false_acceptance_at(GENUINE, IMPOSTOR, 1.0) == 0.0


def test_precision_depends_on_how_common_impostors_are():
    assert trigger_precision(0.1, 0.1, 0.01) == pytest.approx(0.009 / 0.108)  # 0.083
    assert trigger_precision(0.1, 0.1, 0.5) == pytest.approx(0.9)
    assert trigger_precision(0.0, 1.0, 0.5) == 0.0
    assert trigger_precision(0.1, 0.1, 1.0) == 1.0


def test_a_band_of_no_decision():
    found = abstain_band(GENUINE, IMPOSTOR, 0.3, 0.8)
    # .2 and the three impostors up to .3 are refused, .8 and .9 let in; .6, .5, .7 are undecided.
    assert found.coverage == pytest.approx(6 / 9)
    assert found.c_at_1 == pytest.approx((5 + 3 * 5 / 9) / 9)
    assert (found.false_acceptance, found.false_rejection) == (0.0, 0.5)


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=20),
    st.lists(st.integers(0, 8), min_size=1, max_size=20),
)
def test_equal_error_rate_lies_between_the_rates_around_it(genuine, impostor):
    genuine, impostor = np.array(genuine) / 8, np.array(impostor) / 8
    rate = equal_error_rate(genuine, impostor)
    points = [acceptance(genuine, impostor, t) for t in [*np.arange(9) / 8, 2.0]]
    assert min(max(point) for point in points) >= rate - 1e-12
    assert max(min(point) for point in points) <= rate + 1e-12
    # A rate that swaps the two kinds and turns the scores around is the same but for ties.
    assert 0 <= rate <= 1


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.floats(0, 1),
)
def test_a_chosen_threshold_keeps_its_promise(impostor, share):
    impostor = np.array(impostor)
    threshold = threshold_for_acceptance(impostor, share)
    assert (impostor >= threshold).mean() <= share
    # The next lower score would let in too many, unless all are let in.
    lower = impostor[impostor < threshold]
    if len(lower):
        assert (impostor >= lower.max()).mean() > share


def test_what_is_no_attempt_is_refused():
    with pytest.raises(UserError, match="no impostor attempts"):
        equal_error_rate(GENUINE, np.array([]))
    with pytest.raises(UserError, match="not a finite number"):
        acceptance(np.array([np.nan]), IMPOSTOR, 0.5)
    with pytest.raises(UserError, match="rejection must lie"):
        false_acceptance_at(GENUINE, IMPOSTOR, -0.1)
    with pytest.raises(UserError, match="from low to high"):
        abstain_band(GENUINE, IMPOSTOR, 0.8, 0.3)
