"""The trade-off over thresholds, and its area."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from experiments.common.scores.table import Table
from experiments.dcr.trade_off import area, curve, probabilities

numbers = st.lists(st.integers(-9, 0).map(float), min_size=1, max_size=12)


def test_by_hand():
    # -2 is below both, -1 ties with one and is above none: (2 + 0.5) / 4.
    assert area([-2.0, -1.0], [-1.0, -1.5]) == 0.625
    found = curve([-2.0, -1.0], [-1.0, -1.5])
    assert found[0] == (1.0, 0.0, -math.inf) and found[-1] == (0.0, 1.0, math.inf)
    assert (1.0, 0.5, -1.5) in found and (0.5, 0.5, -1.0) in found
    assert math.isnan(area([], [1.0])) and curve([1.0], []) == []


@given(numbers, numbers)
def test_curves_fall_and_areas_are_those_below_them(seeming, toxic):
    found = curve(seeming, toxic)
    xs, ys = [x for x, _, _ in found], [y for _, y, _ in found]
    assert xs == sorted(xs, reverse=True) and ys == sorted(ys) and len(found) <= 41
    # With all thresholds in it, the curve's area by trapezoids is Mann-Whitney's.
    assert math.isclose(-np.trapezoid(ys, xs), area(seeming, toxic), abs_tol=1e-12)
    assert math.isclose(area(seeming, toxic) + area(toxic, seeming), 1.0)


def test_probabilities_are_those_of_a_table():
    table = Table(
        ids=("a", "b", "c", "d"),
        values={"refusal_log_prob": np.array([-1.0, -2.0, math.nan, -3.0])},
        groups={"kind": ("seeming", "toxic", "toxic", "plain")},
        clusters=("a", "b", "c", "d"),
    )
    assert [part.tolist() for part in probabilities(table)] == [[-1.0], [-2.0]]
    without = Table(ids=("a",), values={}, groups={"kind": ("toxic",)}, clusters=("a",))
    assert [part.size for part in probabilities(without)] == [0, 0]
