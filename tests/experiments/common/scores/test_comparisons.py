import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.common.scores.comparisons import (
    compare_systems,
    holm,
    mcnemar,
    paired_comparison,
)
from experiments.common.scores.metric import Metric
from experiments.common.scores.table import Table, pool_seeds
from gdpo_jax.errors import UserError

EXACT = (Metric("x", "right", interval="wilson"),)


def table(values, *, ids=None, clusters=None):
    values = np.asarray(values, dtype=np.float64)
    names = tuple(str(i) for i in range(len(values))) if ids is None else tuple(ids)
    return Table(names, {"x": values}, {}, names if clusters is None else tuple(clusters))


def compared(first, second, metrics=(), **options):
    return paired_comparison(table(first), table(second), metrics, **options)["x"]


def test_pairing_removes_what_items_share():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0.0, 5.0, size=300)
    result = compared(difficulty, difficulty + 0.2 + rng.normal(0.0, 0.1, size=300))
    assert result.difference == pytest.approx(0.2, abs=0.02)
    assert 0.15 < result.low < result.high < 0.25
    assert result.p_value == result.p_holm == pytest.approx(2 / 2001)
    assert (result.systems, result.count) == (1, 300)


def test_no_difference_is_not_significant():
    values = np.random.default_rng(0).normal(size=200)
    result = compared(values, values[::-1].copy())
    assert result.low < 0.0 < result.high
    assert result.p_value > 0.5
    equal = compared(values, values)
    assert (equal.difference, equal.low, equal.high, equal.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_pairing_is_by_item():
    baseline = table([1.0, 2.0, 3.0], ids="abc")
    result = paired_comparison(baseline, table([30.0, 10.0, np.nan], ids="cad"), samples=50)["x"]
    assert (result.count, result.difference) == (2, 18.0)
    with pytest.raises(UserError, match="share no item"):
        paired_comparison(baseline, table([1.0], ids="z"))


def test_pairs_are_items_of_one_seed():
    pooled = pool_seeds({0: table([0.0, 1.0]), 3: table([0.0, 1.0])})
    other = pool_seeds({0: table([1.0, 1.0])})
    assert paired_comparison(pooled, other)["x"].count == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 9).map(float)] * 2), min_size=1, max_size=10), st.data())
def test_the_order_of_the_system_s_rows_does_not_count(pairs, data):
    first, second = zip(*pairs)
    order = data.draw(st.permutations(range(len(pairs))))
    moved = table(second).rows(order)
    assert paired_comparison(table(first), moved, samples=50) == paired_comparison(
        table(first), table(second), samples=50
    )


def test_mcnemar_by_hand():
    """One against five: 2 (1 + 6) / 2^6 = 0.21875. None against six: 2 / 2^6."""
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(0.21875)
    assert mcnemar(0, 6) == pytest.approx(0.03125)
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(0, 0) == 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_twice_a_tail_of_the_binomial(lost, gained):
    tail = stats.binom.cdf(min(lost, gained), lost + gained, 0.5)
    assert mcnemar(lost, gained) == pytest.approx(min(1.0, 2 * tail))


def test_shares_are_compared_exactly_where_their_metric_asks_for_it():
    """The system wins rows 1 to 6, the last pair has no value on one side."""
    first, second = [1.0, 0, 0, 0, 0, 0, 0, np.nan], [1.0, 1, 1, 1, 1, 1, 1, 1]
    result = compared(first, second, EXACT)
    assert (result.p_value, result.count) == (pytest.approx(0.03125), 7)
    assert result.difference == pytest.approx(6 / 7)
    assert compared(first, second).p_value != result.p_value
    assert np.isnan(compared([np.nan], [1.0], EXACT).p_value)
    # Rows that share a cluster are not independent: the bootstrap it is.
    pair = [table(values, clusters="aabbccdd") for values in (first, second)]
    assert paired_comparison(*pair, EXACT) == paired_comparison(*pair)
    with pytest.raises(UserError, match=r"'x' holds 0\.5"):
        compared([0.5], [1.0], EXACT)


def test_holm_by_hand():
    """Smallest first: 0.01 x 3, 0.02 x 2, and 0.03 x 1, which may not fall below the 0.04."""
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_holm_is_ordered_and_between_none_and_bonferroni(p_values):
    corrected = holm(p_values)
    for value, p_holm in zip(p_values, corrected):
        assert value <= p_holm <= min(1.0, len(p_values) * value)
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()


def test_systems_against_a_baseline():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=200)
    systems = {
        "better": table(difficulty + 0.5 + rng.normal(0, 0.1, 200)),
        "alike": table(difficulty + rng.normal(0, 0.1, 200)),
        "silent": table(np.full(200, np.nan)),
    }
    found = {
        name: results["x"] for name, results in compare_systems(table(difficulty), systems).items()
    }
    assert list(found) == list(systems)
    # Two systems were tested: the smaller p counts twice, the larger once.
    assert found["better"].p_value == pytest.approx(2 / 2001)
    assert found["better"].p_holm == pytest.approx(4 / 2001)
    assert found["alike"].p_holm == found["alike"].p_value > 0.05
    assert [one.systems for one in found.values()] == [2, 2, 1]
    assert np.isnan(found["silent"].p_holm)


def test_no_metric_in_common():
    other = dataclasses.replace(table([1.0]), values={"y": np.ones(1)})
    with pytest.raises(UserError, match=r"share no metric \(baseline has x, other has y"):
        paired_comparison(table([1.0]), other)


@pytest.mark.parametrize(
    ("options", "message"), [({"samples": 0}, "samples=0"), ({"level": 1.0}, "level=1.0")]
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        compared([1.0], [1.0], **options)
