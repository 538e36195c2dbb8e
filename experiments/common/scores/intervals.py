"""Confidence intervals of means: by bootstrap over clusters, and Wilson's for shares.

Clusters are drawn with replacement (B. Efron, 1979) with all their rows: answers to one prompt, or
about one user, are not independent evidence. At its edges a bootstrap of zeros and ones has no
width, which Wilson's score interval (E. B. Wilson, 1927) has.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from experiments.common.scores.metric import Metric, exact_columns
from experiments.common.scores.table import Table
from gdpo_jax.errors import UserError

_CHUNK = 4_000_000


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its interval; `count` items went into it."""

    mean: float
    low: float
    high: float
    count: int


def mean_intervals(
    table: Table,
    metrics: tuple[Metric, ...] = (),
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """An interval for the mean of every column: Wilson's where a metric asks for it and no two rows
    share a cluster, and a percentile of `samples` resamples elsewhere.

    Raises UserError for an empty table, bad options, and a column that is not of zeros and ones
    where Wilson's was asked for.
    """
    check_options(samples, level)
    if not len(table):
        raise UserError("there are no items to measure")
    names = tuple(table.values)
    values = np.stack([table.values[name] for name in names], axis=1)
    means, draws = resampled_means(values, table.clusters, samples=samples, seed=seed)
    low, high = percentiles(draws, level)
    counts = (~np.isnan(values)).sum(axis=0)
    found = {
        name: Interval(float(means[i]), float(low[i]), float(high[i]), int(counts[i]))
        for i, name in enumerate(names)
    }
    for name in exact_columns(table, metrics):
        known = zeros_and_ones(name, table.values[name])
        found[name] = wilson(int(known.sum()), known.size, level=level)
    return found


def wilson(successes: int, count: int, *, level: float = 0.95) -> Interval:
    """The share of successes with Wilson's score interval; NaN for a count of zero."""
    check_options(1, level)
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0)
    from scipy import stats  # here, for it is a quarter of what a command imports

    bounds = stats.binomtest(successes, count).proportion_ci(level, method="wilson")
    return Interval(successes / count, float(bounds.low), float(bounds.high), count)


def zeros_and_ones(name: str, column: np.ndarray) -> np.ndarray:
    """The entries that are not NaN. Raises UserError if one is neither 0 nor 1."""
    known = column[~np.isnan(column)]
    if (strange := known[(known != 0) & (known != 1)]).size:
        raise UserError(
            f"metric {name!r} holds {strange[0]:g}; exact statistics are for zeros and ones, give "
            'it interval="bootstrap"'
        )
    return known


def resampled_means(
    values: np.ndarray, clusters: Sequence[str], *, samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means [M] of values [N, M], and their resampled means [samples, M]; NaN entries are left out.

    A resampled mean is a ratio of sums over drawn clusters, so it weighs rows as the mean does.
    """
    labels = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    cluster = np.array([labels[name] for name in clusters], dtype=np.int64)
    num_clusters = len(labels)
    sums = np.zeros((num_clusters, values.shape[1]))
    counts = np.zeros((num_clusters, values.shape[1]))
    np.add.at(sums, cluster, np.nan_to_num(values, nan=0.0))
    np.add.at(counts, cluster, (~np.isnan(values)).astype(np.float64))
    means = _ratio(sums.sum(axis=0), counts.sum(axis=0))
    rng = np.random.default_rng(seed)
    draws = []
    step = max(1, _CHUNK // max(1, num_clusters))
    for start in range(0, samples, step):
        drawn = rng.integers(num_clusters, size=(min(step, samples - start), num_clusters))
        drawn += num_clusters * np.arange(len(drawn))[:, None]  # the draws of each resample apart
        weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        draws.append(_ratio(weights @ sums, weights @ counts))
    return means, np.concatenate(draws)


def percentiles(draws: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds [M] of resampled means [samples, M]; NaN entries are left out."""
    tail = (1.0 - level) / 2.0
    bounds = np.full((2, draws.shape[1]), np.nan)
    for column in range(draws.shape[1]):
        known = draws[:, column][~np.isnan(draws[:, column])]
        if known.size:
            bounds[:, column] = np.quantile(known, [tail, 1.0 - tail])
    return bounds[0], bounds[1]


def check_options(samples: int, level: float) -> None:
    """UserError for a number of resamples or a level that mean nothing."""
    if samples < 1:
        raise UserError(f"samples={samples}; draw at least one resample")
    if not 0.0 < level < 1.0:
        raise UserError(f"level={level}; give a share between 0 and 1, such as 0.95")


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)


__all__ = [
    "Interval",
    "check_options",
    "mean_intervals",
    "percentiles",
    "resampled_means",
    "wilson",
    "zeros_and_ones",
]
