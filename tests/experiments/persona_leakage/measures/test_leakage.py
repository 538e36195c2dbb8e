"""Paired leakage, flips and intervals over users, by hand and as properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from experiments.persona_leakage.measures.leakage import (
    flips,
    own_detections,
    paired,
    paired_leakage,
    pairs,
    selectivity,
)
from experiments.persona_leakage.measures.resampling import crossed_interval, user_interval
from gdpo_jax.errors import UserError

DETECTIONS = hnp.arrays(np.bool_, (3, 2, 4))


@settings(deadline=None, max_examples=50)
@given(DETECTIONS)
def test_two_equal_runs_leak_nothing(found):
    interval = paired_leakage(found, found, samples=20)
    assert (interval.mean, interval.low, interval.high, interval.count) == (0.0, 0.0, 0.0, 24)
    assert flips(found, found).p_value == 1.0


@settings(deadline=None, max_examples=50)
@given(DETECTIONS, DETECTIONS)
def test_leakage_changes_its_sign_with_the_sides_and_is_the_rate_of_flips(full, without):
    one, other = (paired_leakage(*s, samples=20).mean for s in ((full, without), (without, full)))
    assert one == pytest.approx(-other)
    assert one == pytest.approx(full.mean() - without.mean())
    assert flips(full, without).rate == pytest.approx(one)
    assert np.nanmean(pairs(paired(full, without))) == pytest.approx(one)


def test_by_hand():
    nan = np.nan
    full = np.array([[[1, 1, 0], [1, 0, nan]], [[0, 0, 1], [1, 1, 1]]], np.float64)
    without = np.array([[[0, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, nan, 0]]], np.float64)
    # Differences: 1 1 0 | 1 -1 - and 0 0 0 | 1 - 1.
    found = flips(full, without)
    assert (found.gained, found.lost, found.count) == (5, 1, 10)
    assert found.rate == 0.4
    assert found.p_value == pytest.approx(2 * (1 + 6) / 2**6)  # of 6 flips, 5 or 6 on one side
    assert pairs(paired(full, without)).tolist() == [[2 / 3, 0.0], [0.0, 1.0]]
    assert paired_leakage(full, without, samples=20).mean == pytest.approx(0.4)
    assert selectivity(0.9, 0.4) == pytest.approx(0.5)
    assert np.isnan(pairs(np.full((1, 1, 2), nan))).all()


def test_recall_is_of_the_owners_own_probes():
    found = np.array([[1, 0, 1, 0], [1, 1, 1, 0]])
    own = own_detections(found, ["u", "v"], ["u", "v", "v", "x"])
    assert own[0, 0] == 1.0 and np.isnan(own[0, 1]) and own[1].tolist() == [1.0, 1.0]
    assert user_interval(own, samples=10).count == 3
    with pytest.raises(UserError, match="'w' asked nothing"):
        own_detections(found, ["u", "w"], ["u", "v", "v", "x"])


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(UserError, match=r"shape \(1, 2, 3\), without it \(1, 2, 4\)"):
        paired(np.zeros((1, 2, 3)), np.zeros((1, 2, 4)))
    with pytest.raises(UserError, match=r"without the source is 0\.5"):
        paired(np.zeros((1, 1, 1)), np.full((1, 1, 1), 0.5))
    nothing = np.full((1, 1, 1), np.nan)
    with pytest.raises(UserError, match="no pair"):
        flips(nothing, nothing)
    with pytest.raises(UserError, match="no values of any pair"):
        crossed_interval(nothing)
    with pytest.raises(UserError, match="legal: both, sources, victims"):
        crossed_interval(np.zeros((1, 1, 1)), resample="probes")
    with pytest.raises(UserError, match="no values of any user"):
        user_interval(nothing[0])


def test_sources_alone_vary_where_victims_are_alike():
    """One source of four leaks always, to everybody: victims tell nothing, sources vary."""
    values = np.zeros((4, 3, 2))
    values[0] = 1.0
    of_victims = crossed_interval(values, resample="victims", samples=500)
    assert (of_victims.low, of_victims.high) == (0.25, 0.25)
    of_sources = crossed_interval(values, resample="sources", samples=500)
    both = crossed_interval(values, samples=500)
    # Draws of 4 with a quarter each: 0 of them in 32 % of draws, 3 or more in 5 %.
    assert of_sources.low == both.low == 0.0 and 0.5 <= of_sources.high <= 0.75
    assert of_sources.mean == both.mean == 0.25
    turned = crossed_interval(values.swapaxes(0, 1), resample="victims", samples=500)
    assert turned.low == 0.0 and turned.high >= 0.5


def test_intervals_count_users_and_not_answers():
    one = np.array([[1.0], [0.0], [0.0], [1.0]])
    many = np.repeat(one, 50, axis=1)
    few, more = (user_interval(values, samples=400, seed=1) for values in (one, many))
    assert (few.low, few.high) == (more.low, more.high)
    assert (few.count, more.count) == (4, 200)
    # Missing answers weigh nothing.
    gaps = np.array([[1.0, np.nan], [0.0, 0.0]])
    assert user_interval(gaps, samples=20).mean == pytest.approx(1 / 3)


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.float64, (3, 4, 2), elements=st.sampled_from([0.0, 1.0, np.nan])))
def test_a_mean_is_inside_of_what_it_is_a_mean_of(values):
    if np.isnan(values).all():
        return
    found = crossed_interval(values, samples=30)
    assert found.mean == pytest.approx(np.nanmean(values))
    assert np.nanmin(values) <= found.low <= found.high <= np.nanmax(values)
