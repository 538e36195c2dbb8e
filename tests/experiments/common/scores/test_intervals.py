import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.common.scores.intervals import (
    bootstrap_intervals,
    compare_systems,
    holm,
    paired_comparison,
    pool_seeds,
    with_parts,
)
from experiments.saferec.evaluation.metrics import MetricTable
from gdpo_jax.errors import UserError


def table(values, *, ids=None, contexts=None):
    values = np.asarray(values, dtype=np.float64)
    names = tuple(str(i) for i in range(len(values))) if ids is None else tuple(ids)
    return MetricTable(
        sample_ids=names,
        values={"svr@10": values},
        groups={},
        contexts=names if contexts is None else tuple(contexts),
    )


def test_interval_of_a_known_spread():
    """For 400 zeros and ones the percentile interval is close to the normal one."""
    values = np.tile([0.0, 1.0], 200)
    interval = bootstrap_intervals(table(values))["svr@10"]
    assert interval.mean == 0.5
    assert interval.count == 400
    np.testing.assert_allclose([interval.low, interval.high], [0.451, 0.549], atol=0.006)


def test_interval_covers_the_truth_about_as_often_as_promised():
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        sample = rng.normal(1.0, 2.0, size=60)
        interval = bootstrap_intervals(table(sample), samples=200, level=0.9, seed=seed)["svr@10"]
        covered += interval.low <= 1.0 <= interval.high
    assert 0.80 <= covered / 200 <= 0.97


def test_same_seed_same_interval():
    values = np.random.default_rng(0).random(50)
    first, second, other = (
        bootstrap_intervals(table(values), samples=100, seed=seed)["svr@10"] for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_nan_does_not_vote():
    interval = bootstrap_intervals(table([1.0, np.nan, 3.0, np.nan]), samples=200)["svr@10"]
    assert interval.mean == 2.0
    assert interval.count == 2
    assert 1.0 <= interval.low <= interval.high <= 3.0
    empty = bootstrap_intervals(table([np.nan]), samples=10)["svr@10"]
    assert empty.count == 0
    assert np.isnan([empty.mean, empty.low, empty.high]).all()


def test_rows_of_one_context_are_drawn_together():
    """Ten copies of a row in one context are one piece of evidence, not ten."""
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 10)
    together = bootstrap_intervals(table(values, contexts=np.repeat(list("abcd"), 10)))["svr@10"]
    apart = bootstrap_intervals(table(values))["svr@10"]
    assert together.mean == apart.mean == 0.5
    assert together.low == 0.0
    assert apart.low > 0.3


def test_pairing_removes_what_conversations_share():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0.0, 5.0, size=300)
    system = difficulty + 0.2 + rng.normal(0.0, 0.1, size=300)
    result = paired_comparison(table(difficulty), table(system))["svr@10"]
    assert result.difference == pytest.approx(0.2, abs=0.02)
    assert 0.15 < result.low < result.high < 0.25
    assert result.p_value == result.p_holm == pytest.approx(2 / 2001)
    assert result.systems == 1
    assert result.count == 300


def test_no_difference_is_not_significant():
    rng = np.random.default_rng(0)
    values = rng.normal(size=200)
    result = paired_comparison(table(values), table(values[::-1].copy()))["svr@10"]
    assert result.low < 0.0 < result.high
    assert result.p_value > 0.5
    equal = paired_comparison(table(values), table(values))["svr@10"]
    assert (equal.difference, equal.low, equal.high, equal.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_pairing_is_by_conversation():
    baseline = table([1.0, 2.0, 3.0], ids="abc")
    system = table([30.0, 10.0, np.nan], ids="cad")
    result = paired_comparison(baseline, system, samples=50)["svr@10"]
    assert result.count == 2
    assert result.difference == 18.0
    with pytest.raises(UserError, match="share no conversation"):
        paired_comparison(baseline, table([1.0], ids="z"))


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
        name: results["svr@10"]
        for name, results in compare_systems(table(difficulty), systems).items()
    }
    assert list(found) == list(systems)
    # Two systems were tested: the smaller p counts twice, the larger once.
    assert found["better"].p_value == pytest.approx(2 / 2001)
    assert found["better"].p_holm == pytest.approx(4 / 2001)
    assert found["alike"].p_holm == found["alike"].p_value > 0.05
    assert [one.systems for one in found.values()] == [2, 2, 1]
    assert np.isnan(found["silent"].p_holm)


def test_seeds_are_pooled_under_their_conversations():
    """Each context holds its rows of both seeds, so more seeds do not shrink the interval."""
    one = table([0.0, 1.0, 0.0, 1.0], contexts="abcd")
    pooled = pool_seeds({0: one, 3: one})
    assert pooled.sample_ids == ("0/0", "0/1", "0/2", "0/3", "3/0", "3/1", "3/2", "3/3")
    assert pooled.contexts == tuple("abcdabcd")
    alone, both = bootstrap_intervals(one)["svr@10"], bootstrap_intervals(pooled)["svr@10"]
    assert (both.mean, both.low, both.high) == (alone.mean, alone.low, alone.high)
    assert both.count == 8
    other = pool_seeds({0: table([1.0, 1.0, 1.0, 1.0], contexts="abcd")})
    # Pairs are conversations of one seed: those of seed 3 have no partner.
    assert paired_comparison(pooled, other)["svr@10"].count == 4
    fuller = dataclasses.replace(one, values={**one.values, "svr@20": np.zeros(4)})
    assert pool_seeds({0: fuller, 1: one}).values.keys() == {"svr@10"}
    with pytest.raises(UserError, match="seed 1 and seed 0 were scored on different conversations"):
        pool_seeds({0: one, 1: table([1.0])})


def test_parts_are_columns():
    split = dataclasses.replace(table([0.0, 0.5, 1.0]), groups={"said": ("a", "b", "a")})
    values = with_parts(split, "said").values
    np.testing.assert_array_equal(values["svr@10/a"], [0.0, np.nan, 1.0])
    np.testing.assert_array_equal(values["svr@10/b"], [np.nan, 0.5, np.nan])
    interval = bootstrap_intervals(with_parts(split, "said"))["svr@10/a"]
    assert (interval.mean, interval.count) == (0.5, 2)
    assert with_parts(split, "said", ("ndcg@5",)).values.keys() == {"svr@10"}
    assert with_parts(split, "trait") == split


def test_no_metric_in_common():
    other = dataclasses.replace(table([1.0]), values={"svr@5": np.ones(1)})
    with pytest.raises(UserError, match=r"share no metric \(baseline has svr@10, other has svr@5"):
        paired_comparison(table([1.0]), other)


@pytest.mark.parametrize(
    ("options", "message"), [({"samples": 0}, "samples=0"), ({"level": 1.0}, "level=1.0")]
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        bootstrap_intervals(table([1.0]), **options)
    with pytest.raises(UserError, match=message):
        paired_comparison(table([1.0]), table([1.0]), **options)


def test_nothing_to_measure():
    with pytest.raises(UserError, match="no conversations"):
        bootstrap_intervals(table([]))
