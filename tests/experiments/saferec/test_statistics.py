import numpy as np
import pytest

from experiments.saferec.metrics import MetricTable
from experiments.saferec.statistics import bootstrap_intervals, compare_arms, paired_comparison
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
    assert result.p_value == pytest.approx(2 / 2001)
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


def test_arms_against_a_baseline():
    arms = {"sft": table([0.5, 0.7]), "gdpo": table([0.1, 0.2]), "grpo": table([0.5, 0.7])}
    results = compare_arms(arms, "sft", samples=50)
    assert set(results) == {"gdpo", "grpo"}
    assert results["gdpo"]["svr@10"].difference == pytest.approx(-0.45)
    assert results["grpo"]["svr@10"].difference == 0.0
    with pytest.raises(UserError, match="legal: sft, gdpo, grpo"):
        compare_arms(arms, "base")


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
