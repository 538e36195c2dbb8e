"""Systems held against a baseline on the items that both answered.

A comparison draws the same clusters for both systems, so what makes an item easy or hard cancels.
Two columns of zeros and ones are compared exactly (Q. McNemar, 1947). Where several systems are
held against one baseline, p values are corrected as well (S. Holm, 1979), metric by metric over the
systems.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common.scores.intervals import (
    check_options,
    percentiles,
    resampled_means,
    zeros_and_ones,
)
from experiments.common.scores.metric import Metric, exact_columns
from experiments.common.scores.table import Table
from gdpo_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Mean of system minus baseline with its percentile interval.

    `p_value` is two-sided: McNemar's where the metric asks for exact statistics, else twice the
    smaller share of resamples on either side of zero, at least 2 / (samples + 1). `p_holm` is the
    same corrected for `systems`, the number of systems held against the baseline; the two agree
    where there is one. `count` items have the metric in both systems.
    """

    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    systems: int
    count: int


def compare_systems(
    baseline: Table,
    systems: Mapping[str, Table],
    metrics: tuple[Metric, ...] = (),
    **options,
) -> dict[str, dict[str, Comparison]]:
    """Every system against the baseline, with `p_holm` over the systems that have the metric.

    `options` as in `paired_comparison`.
    """
    compared = {
        name: paired_comparison(baseline, table, metrics, **options)
        for name, table in systems.items()
    }
    for metric in dict.fromkeys(metric for found in compared.values() for metric in found):
        # A metric that applies to no item of a system is no test of it.
        tested = [
            name
            for name, found in compared.items()
            if metric in found and not math.isnan(found[metric].p_value)
        ]
        corrected = holm([compared[name][metric].p_value for name in tested])
        for name, p_holm in zip(tested, corrected):
            compared[name][metric] = dataclasses.replace(
                compared[name][metric], p_holm=p_holm, systems=len(tested)
            )
    return compared


def paired_comparison(
    baseline: Table,
    system: Table,
    metrics: tuple[Metric, ...] = (),
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Comparison]:
    """system minus baseline for every column both tables have, over the items both have.

    Raises UserError if the tables share no item or no metric.
    """
    check_options(samples, level)
    first, second = _shared_rows(baseline, system)
    names = tuple(name for name in first.values if name in second.values)
    if not names:
        raise UserError(
            f"the two results share no metric (baseline has {', '.join(first.values)}, other has "
            f"{', '.join(second.values)}); measure both alike"
        )
    # A difference is NaN, and does not vote, where either side is.
    gaps = np.stack([second.values[name] - first.values[name] for name in names], axis=1)
    means, draws = resampled_means(gaps, first.clusters, samples=samples, seed=seed)
    low, high = percentiles(draws, level)
    counts = (~np.isnan(gaps)).sum(axis=0)
    exact = exact_columns(first, metrics)
    found = {}
    for i, name in enumerate(names):
        if name in exact:
            zeros_and_ones(name, np.concatenate([first.values[name], second.values[name]]))
            lost, gained = (int((gaps[:, i] == sign).sum()) for sign in (-1.0, 1.0))
            p_value = mcnemar(lost, gained) if counts[i] else math.nan
        else:
            p_value = _p_value(draws[:, i])
        found[name] = Comparison(
            difference=float(means[i]),
            low=float(low[i]),
            high=float(high[i]),
            p_value=p_value,
            p_holm=p_value,
            systems=1,
            count=int(counts[i]),
        )
    return found


def _shared_rows(baseline: Table, system: Table) -> tuple[Table, Table]:
    positions = {name: i for i, name in enumerate(system.ids)}
    shared = [(i, positions[name]) for i, name in enumerate(baseline.ids) if name in positions]
    if not shared:
        raise UserError(
            "the two results share no item; score both on the same records "
            f"(baseline starts with {baseline.ids[:3]}, other with {system.ids[:3]})"
        )
    return baseline.rows([i for i, _ in shared]), system.rows([j for _, j in shared])


def mcnemar(lost: int, gained: int) -> float:
    """The exact two-sided p value of McNemar's test: `lost` items only the baseline got right,
    `gained` only the other; under the null hypothesis each is as likely. One without any.
    """
    discordant = lost + gained
    if not discordant:
        return 1.0
    from scipy import stats  # here, for it is a quarter of what a command imports

    return float(stats.binomtest(gained, discordant, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number, in the given order: the k-th smallest of m times
    m - k + 1, at least the one before it, at most one (S. Holm, 1979).
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, (len(p_values) - rank) * p_values[place])
        corrected[place] = min(1.0, largest)
    return corrected


def _p_value(draws: np.ndarray) -> float:
    known = draws[~np.isnan(draws)]
    if not known.size:
        return math.nan
    # The observed sample counts as one resample, so that no p value is exactly zero.
    below = (np.count_nonzero(known <= 0) + 1) / (known.size + 1)
    above = (np.count_nonzero(known >= 0) + 1) / (known.size + 1)
    return float(min(1.0, 2.0 * min(below, above)))


__all__ = ["Comparison", "compare_systems", "holm", "mcnemar", "paired_comparison"]
