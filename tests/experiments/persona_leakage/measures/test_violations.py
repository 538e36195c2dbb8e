"""Violation@n and completeness, by hand and as properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from experiments.persona_leakage.measures.violations import completeness, violation_at
from gdpo_jax.errors import UserError

# Three attributes, two tasks, two answers each.
REVEALS = np.array(
    [
        [[False, True], [False, False]],
        [[True, True], [False, True]],
        [[False, False], [True, True]],
    ]
)
PRIVATE = np.array([[True, False], [False, True], [False, False]])


def test_by_hand():
    # The first attribute comes out in the second answer of task 0, the second one of task 1.
    assert violation_at(REVEALS, PRIVATE, 1) == 0.0
    assert violation_at(REVEALS, PRIVATE, 2) == 1.0
    # Task 0 wants attributes 1 and 2: (1 + 0) / 2. Task 1 wants attributes 0 and 2: (0 + 1) / 2.
    assert completeness(REVEALS, ~PRIVATE) == 0.5
    only = np.array([[True, False], [False, False], [False, False]])
    assert completeness(REVEALS, only) == 0.5  # one of two answers, and no other task
    assert violation_at(REVEALS, only, 2) == 1.0


def test_silence_violates_nothing_and_completes_nothing():
    silent = np.zeros_like(REVEALS)
    assert violation_at(silent, PRIVATE, 2) == completeness(silent, ~PRIVATE) == 0.0
    nothing = np.zeros_like(PRIVATE)
    assert math.isnan(violation_at(REVEALS, nothing, 1))
    assert math.isnan(completeness(REVEALS, nothing))


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.bool_, (3, 4, 5)), hnp.arrays(np.bool_, (3, 4)))
def test_more_answers_and_more_tasks_violate_no_less(reveals, private):
    if not private.any():
        return
    rates = [violation_at(reveals, private, n) for n in range(1, 6)]
    assert rates == sorted(rates)
    fewer = private.copy()
    fewer[:, 1:] = False
    kept = private & fewer.any(axis=1, keepdims=True)
    if kept.any():
        assert violation_at(reveals, kept, 5) >= violation_at(reveals, fewer, 5)
    everything = np.ones_like(reveals)
    assert violation_at(everything, private, 1) == completeness(everything, private) == 1.0


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="n=3; there are 2"):
        violation_at(REVEALS, PRIVATE, 3)
    with pytest.raises(UserError, match="attribute, task, sample"):
        completeness(REVEALS, PRIVATE.T)
    with pytest.raises(UserError, match="no answers"):
        completeness(REVEALS[:, :, :0], PRIVATE)
