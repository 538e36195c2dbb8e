"""Confidence intervals and paired comparisons by bootstrap over conversations.

Conversations are drawn with replacement (B. Efron, 1979). Rows that share one prompt share one
answer and are drawn together: they are one context, not independent evidence. A comparison draws
the same contexts for both systems, so what makes a conversation easy or hard cancels. Where several
systems are held against one baseline, p values are corrected as well (S. Holm, 1979), metric by
metric over the systems.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.saferec.evaluation.metrics import MetricTable
from gdpo_jax.errors import UserError

_CHUNK = 4_000_000


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its percentile interval; `count` conversations went into it."""

    mean: float
    low: float
    high: float
    count: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Mean of system minus baseline with its percentile interval.

    `p_value` is two-sided: twice the smaller share of resamples on either side of zero, at least
    2 / (samples + 1). `p_holm` is the same corrected for `systems`, the number of systems held
    against the baseline; the two agree where there is one. `count` conversations have the metric
    in both systems.
    """

    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    systems: int
    count: int


def bootstrap_intervals(
    table: MetricTable, *, samples: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """An interval for the mean of every metric of the table."""
    _check_options(samples, level)
    if not len(table):
        raise UserError("there are no conversations to measure")
    names = tuple(table.values)
    values = np.stack([table.values[name] for name in names], axis=1)
    means, draws = _resampled_means(values, table.contexts, samples=samples, seed=seed)
    low, high = _percentiles(draws, level)
    counts = (~np.isnan(values)).sum(axis=0)
    return {
        name: Interval(float(means[i]), float(low[i]), float(high[i]), int(counts[i]))
        for i, name in enumerate(names)
    }


def paired_comparison(
    baseline: MetricTable,
    system: MetricTable,
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Comparison]:
    """system minus baseline for every metric both tables have, over the conversations both have.

    Raises `UserError` if the tables share no conversation.
    """
    _check_options(samples, level)
    positions = {sample_id: i for i, sample_id in enumerate(system.sample_ids)}
    shared = [(i, positions[s]) for i, s in enumerate(baseline.sample_ids) if s in positions]
    if not shared:
        raise UserError(
            "the two results share no conversation; score both on the same records "
            f"(baseline starts with {baseline.sample_ids[:3]}, other with {system.sample_ids[:3]})"
        )
    first, second = (baseline.rows([i for i, _ in shared]), system.rows([j for _, j in shared]))
    names = tuple(name for name in first.values if name in second.values)
    if not names:
        raise UserError(
            f"the two results share no metric (baseline has {', '.join(first.values)}, other has "
            f"{', '.join(second.values)}); score both with the same cut-offs"
        )
    # A difference is NaN, and does not vote, where either side is.
    gaps = np.stack([second.values[name] - first.values[name] for name in names], axis=1)
    means, draws = _resampled_means(gaps, first.contexts, samples=samples, seed=seed)
    low, high = _percentiles(draws, level)
    counts = (~np.isnan(gaps)).sum(axis=0)
    comparisons = {}
    for i, name in enumerate(names):
        p_value = _p_value(draws[:, i])
        comparisons[name] = Comparison(
            difference=float(means[i]),
            low=float(low[i]),
            high=float(high[i]),
            p_value=p_value,
            p_holm=p_value,
            systems=1,
            count=int(counts[i]),
        )
    return comparisons


def compare_systems(
    baseline: MetricTable, systems: Mapping[str, MetricTable], **options
) -> dict[str, dict[str, Comparison]]:
    """Every system against the baseline, with `p_holm` over the systems that have the metric.

    `options` as in `paired_comparison`.
    """
    compared = {
        name: paired_comparison(baseline, table, **options) for name, table in systems.items()
    }
    metrics = dict.fromkeys(metric for found in compared.values() for metric in found)
    for metric in metrics:
        # A metric that applies to no conversation of a system is no test of it.
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


def pool_seeds(tables: Mapping[int, MetricTable]) -> MetricTable:
    """The rows of all seeds under one another, each id behind its seed.

    A conversation answered by several seeds stays one context, so it is drawn with all its answers;
    intervals then speak of new conversations, not of new seeds. Metrics are those that all seeds
    have. Raises `UserError` if the seeds were scored on different conversations.
    """
    (first_seed, first), *others = tables.items()
    for seed, table in others:
        if table.sample_ids != first.sample_ids:
            raise UserError(
                f"seed {seed} and seed {first_seed} were scored on different conversations; score "
                "both again"
            )
    names = [name for name in first.values if all(name in t.values for t in tables.values())]
    return MetricTable(
        sample_ids=tuple(
            f"{seed}/{name}" for seed, table in tables.items() for name in table.sample_ids
        ),
        values={
            name: np.concatenate([table.values[name] for table in tables.values()])
            for name in names
        },
        groups={
            name: tuple(label for table in tables.values() for label in table.groups[name])
            for name in first.groups
        },
        contexts=first.contexts * len(tables),
    )


def with_parts(table: MetricTable, group: str, metrics: Sequence[str] | None = None) -> MetricTable:
    """The table with a column "metric/label" for every label of `group`: NaN in the other rows.

    `metrics` are the columns to be split, all unless given. A table without the group stays as is.
    """
    values = dict(table.values)
    for label in sorted(set(table.groups.get(group, ()))):
        inside = np.array([other == label for other in table.groups[group]])
        for name in table.values if metrics is None else metrics:
            if name in table.values:
                values[f"{name}/{label}"] = np.where(inside, table.values[name], np.nan)
    return dataclasses.replace(table, values=values)


def _resampled_means(
    values: np.ndarray, contexts: Sequence[str], *, samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means [M] of values [N, M], and their resampled means [samples, M]; NaN entries are left out.

    A resampled mean is a ratio of sums over drawn contexts, so it weighs rows as the mean does.
    """
    labels = {context: i for i, context in enumerate(dict.fromkeys(contexts))}
    cluster = np.array([labels[context] for context in contexts], dtype=np.int64)
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
        weights = np.stack([np.bincount(row, minlength=num_clusters) for row in drawn])
        draws.append(_ratio(weights @ sums, weights @ counts))
    return means, np.concatenate(draws)


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)


def _percentiles(draws: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    tail = (1.0 - level) / 2.0
    bounds = np.full((2, draws.shape[1]), np.nan)
    for column in range(draws.shape[1]):
        known = draws[:, column][~np.isnan(draws[:, column])]
        if known.size:
            bounds[:, column] = np.quantile(known, [tail, 1.0 - tail])
    return bounds[0], bounds[1]


def _p_value(draws: np.ndarray) -> float:
    known = draws[~np.isnan(draws)]
    if not known.size:
        return float("nan")
    # The observed sample counts as one resample, so that no p value is exactly zero.
    below = (np.count_nonzero(known <= 0) + 1) / (known.size + 1)
    above = (np.count_nonzero(known >= 0) + 1) / (known.size + 1)
    return float(min(1.0, 2.0 * min(below, above)))


def _check_options(samples: int, level: float) -> None:
    if samples < 1:
        raise UserError(f"samples={samples}; draw at least one resample")
    if not 0.0 < level < 1.0:
        raise UserError(f"level={level}; give a share between 0 and 1, such as 0.95")


__all__ = [
    "Comparison",
    "Interval",
    "bootstrap_intervals",
    "compare_systems",
    "holm",
    "paired_comparison",
    "pool_seeds",
    "with_parts",
]
