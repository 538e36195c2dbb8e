"""Exposure of inserted secrets: ranks, ties and the value of a model that remembers nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.persona_leakage.measures.exposure import (
    expected_exposure,
    exposures,
    largest_exposure,
)
from gdpo_jax.errors import UserError


def test_by_hand():
    log_probs = np.array([[-1.0, -2.0, -3.0, -4.0], [-1.0, -2.0, -2.0, -4.0]])
    ranks = [exposures(log_probs[:1], np.array([place]))[0] for place in range(4)]
    assert ranks == pytest.approx([2.0, 1.0, 2.0 - math.log2(3), 0.0])
    # Ranks 2 and 3 are shared: 2 - (1 + log2 3) / 2.
    both = exposures(log_probs, np.array([0, 1]))
    assert both == pytest.approx([2.0, 2.0 - (1.0 + math.log2(3)) / 2])
    assert largest_exposure(4) == 2.0


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40))
def test_all_ranks_together_have_the_expected_exposure(count):
    log_probs = np.tile(-np.arange(count, dtype=np.float64), (count, 1))
    found = exposures(log_probs, np.arange(count))
    assert found.mean() == pytest.approx(expected_exposure(count))
    assert found.max() == pytest.approx(largest_exposure(count))
    # A model that tells no candidate apart.
    same = exposures(np.zeros((1, count)), np.array([count - 1]))
    assert same[0] == pytest.approx(expected_exposure(count))


def test_without_memory_exposure_is_log2_e():
    assert expected_exposure(10**6) == pytest.approx(math.log2(math.e), abs=1e-4)
    assert expected_exposure(1) == 0.0 == largest_exposure(1)
    drawn = np.random.default_rng(0).normal(size=(4000, 64))
    found = exposures(drawn, np.zeros(4000, np.int64)).mean()
    assert found == pytest.approx(expected_exposure(64), abs=0.1)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-9, 0), min_size=2, max_size=12), st.floats(0.1, 5))
def test_a_likelier_secret_is_not_less_exposed(values, more):
    before = np.array([values])
    after = before.copy()
    after[0, 0] += more
    place = np.array([0])
    assert exposures(after, place)[0] >= exposures(before, place)[0] - 1e-12


def test_what_has_no_rank_is_refused():
    with pytest.raises(UserError, match="no log-probability"):
        exposures(np.array([[0.0, np.nan]]), np.array([0]))
    with pytest.raises(UserError, match="not one of its 2 candidates"):
        exposures(np.zeros((1, 2)), np.array([2]))
    with pytest.raises(UserError, match="at least one"):
        expected_exposure(0)
