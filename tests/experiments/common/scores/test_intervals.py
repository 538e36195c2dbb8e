import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.common.scores.intervals import Interval, mean_intervals, resampled_means, wilson
from experiments.common.scores.metric import Metric
from experiments.common.scores.table import Table, pool_seeds
from gdpo_jax.errors import UserError

SHARE = (Metric("x", "share", interval="wilson"),)


def table(values, *, clusters=None):
    values = np.asarray(values, dtype=np.float64)
    names = tuple(str(i) for i in range(len(values)))
    return Table(names, {"x": values}, {}, names if clusters is None else tuple(clusters))


def interval_of(values, *, clusters=None, metrics=(), **options):
    return mean_intervals(table(values, clusters=clusters), metrics, **options)["x"]


def test_interval_of_a_known_spread():
    """For 400 zeros and ones the percentile interval is close to the normal one."""
    interval = interval_of(np.tile([0.0, 1.0], 200))
    assert (interval.mean, interval.count) == (0.5, 400)
    np.testing.assert_allclose([interval.low, interval.high], [0.451, 0.549], atol=0.006)


def test_interval_covers_the_truth_about_as_often_as_promised():
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        interval = interval_of(rng.normal(1.0, 2.0, size=60), samples=200, level=0.9, seed=seed)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.80 <= covered / 200 <= 0.97


def test_same_seed_same_interval():
    values = np.random.default_rng(0).random(50)
    first, second, other = (interval_of(values, samples=100, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_nan_does_not_vote():
    interval = interval_of([1.0, np.nan, 3.0, np.nan], samples=200)
    assert (interval.mean, interval.count) == (2.0, 2)
    assert 1.0 <= interval.low <= interval.high <= 3.0
    empty = interval_of([np.nan], samples=10)
    assert empty.count == 0
    assert np.isnan([empty.mean, empty.low, empty.high]).all()


def test_rows_of_one_cluster_are_drawn_together():
    """Ten copies of a row in one cluster are one piece of evidence, not ten."""
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 10)
    together = interval_of(values, clusters=np.repeat(list("abcd"), 10))
    apart = interval_of(values)
    assert together.mean == apart.mean == 0.5
    assert together.low == 0.0
    assert apart.low > 0.3


def test_more_seeds_do_not_shrink_an_interval():
    """Each item holds its rows of both seeds, so equal answers are no new evidence."""
    one = table([0.0, 1.0, 0.0, 1.0])
    alone, both = mean_intervals(one)["x"], mean_intervals(pool_seeds({0: one, 3: one}))["x"]
    assert (both.mean, both.low, both.high) == (alone.mean, alone.low, alone.high)
    assert both.count == 8


def test_wilson_by_hand():
    """z = 1.959964, z^2 = 3.841459. For 0 of 10 the bounds are 0 and z^2 / (10 + z^2) = 0.277533;
    for 5 of 10 the half width is z sqrt(0.25 / 10 + z^2 / 400) / (1 + z^2 / 10) = 0.263405.
    """
    none = wilson(0, 10)
    assert (none.mean, none.low, none.count) == (0.0, 0.0, 10)
    assert none.high == pytest.approx(0.277533, abs=1e-6)
    half = wilson(5, 10)
    assert (half.low, half.high) == pytest.approx((0.236595, 0.763405), abs=1e-5)
    assert wilson(0, 0).count == 0 and math.isnan(wilson(0, 0).low)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_against_its_formula(counts):
    hits, count = counts
    z = stats.norm.ppf(0.95)
    share, scale = hits / count, 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / scale
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / scale
    found = wilson(hits, count, level=0.9)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half), abs=1e-9)
    assert found.low <= share <= found.high


def test_a_share_at_its_edge_has_a_width_where_its_metric_asks_for_wilson():
    assert interval_of([0.0] * 10) == Interval(0.0, 0.0, 0.0, 10)
    assert interval_of([0.0] * 10, metrics=SHARE) == wilson(0, 10)
    assert interval_of([0.0, np.nan, 1.0], metrics=SHARE) == wilson(1, 2)
    # Rows that share a cluster are not independent: the bootstrap it is.
    assert interval_of([0.0] * 4, clusters="aabb", metrics=SHARE).high == 0.0
    with pytest.raises(UserError, match=r"'x' holds 0\.5; exact statistics are for zeros and ones"):
        interval_of([0.0, 0.5], metrics=SHARE)


VALUES = st.lists(st.integers(-50, 50).map(float) | st.just(math.nan), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.randoms(use_true_random=False))
def test_the_mean_lies_inside_and_the_order_of_clusters_names_does_not_count(values, random):
    """All of 1,000 resamples on one side of the mean is a matter of 2^-1000."""
    found = interval_of(values, samples=1000, level=0.999)
    if found.count:
        assert found.low <= found.mean + 1e-9 and found.mean - 1e-9 <= found.high
        assert np.nanmin(values) <= found.low and found.high <= np.nanmax(values)
    names = [str(place) for place in range(len(values))]
    random.shuffle(names)
    assert _same(interval_of(values, clusters=names, samples=1000, level=0.999), found)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9).map(float), min_size=2, max_size=10), st.data())
def test_rows_inside_a_cluster_may_stand_in_any_order(values, data):
    """A cluster counts by its sum and its rows; integers sum exactly in any order."""
    size = len(values)
    clusters = data.draw(st.lists(st.sampled_from("abc"), min_size=size, max_size=size))
    first = dict.fromkeys(clusters)
    order = sorted(range(size), key=lambda row: list(first).index(clusters[row]))
    moved = interval_of([values[i] for i in order], clusters=[clusters[i] for i in order])
    assert moved == interval_of(values, clusters=clusters)


def test_single_clusters_are_the_plain_bootstrap():
    values = np.random.default_rng(1).random(30)
    _, draws = resampled_means(values[:, None], [str(i) for i in range(30)], samples=50, seed=7)
    places = np.random.default_rng(7).integers(30, size=(50, 30))
    np.testing.assert_allclose(draws[:, 0], values[places].mean(axis=1))


def _same(one: Interval, other: Interval) -> bool:
    return np.allclose(
        [one.mean, one.low, one.high], [other.mean, other.low, other.high], equal_nan=True
    )


@pytest.mark.parametrize(
    ("options", "message"), [({"samples": 0}, "samples=0"), ({"level": 1.0}, "level=1.0")]
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        interval_of([1.0], **options)


def test_nothing_to_measure():
    with pytest.raises(UserError, match="no items to measure"):
        interval_of([])
