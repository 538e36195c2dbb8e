"""The scored arms of a run folder: means over seeds, intervals, and each arm against a baseline.

A run folder holds `seed-*/ARM/scores.json` for every arm that was scored. Means and deviations are
over seeds; intervals and p values are over items, all seeds of an arm together
(`table.pool_seeds`).
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.common.scores.comparisons import Comparison, compare_systems
from experiments.common.scores.intervals import Interval, mean_intervals
from experiments.common.scores.metric import Metric, split_columns
from experiments.common.scores.summaries import read_summary
from experiments.common.scores.table import Table, nan_mean, pool_seeds
from gdpo_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One arm: `values` maps a column to its mean over items, one entry per seed.

    A column is a metric's name, or "name/label" for the items with one label of a group. An entry
    is NaN where the metric applies to no item. `intervals` and `against` (empty for the baseline
    itself) have the same keys.
    """

    name: str
    title: str  # how tables call it
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]
    intervals: Mapping[str, Interval] = dataclasses.field(default_factory=dict)
    against: Mapping[str, Comparison] = dataclasses.field(default_factory=dict)

    def mean(self, column: str) -> float:
        """The mean over the seeds that have the metric; NaN if none has."""
        known = self._known(column)
        return statistics.fmean(known) if known else math.nan

    def spread(self, column: str) -> float:
        """The standard deviation over seeds, n - 1 in the denominator; NaN for fewer than two."""
        known = self._known(column)
        return statistics.stdev(known) if len(known) > 1 else math.nan

    def _known(self, column: str) -> list[float]:
        return [value for value in self.values.get(column, ()) if not math.isnan(value)]


@dataclasses.dataclass(frozen=True)
class Results:
    """Scored arms, or other systems, in the order of tables."""

    source: str  # the run folder or the records
    arms: tuple[ArmResult, ...]
    metrics: tuple[Metric, ...]
    titles: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of unscored arms as well
    groups: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # part labels
    items: int = 0
    clusters: int = 0  # of items that are not independent; `items` if all are
    baseline: str = ""  # the arm that `against` speaks of
    level: float = 0.95  # of the intervals
    bootstrap: int = 0  # resamples behind intervals and p values

    def arm(self, name: str) -> ArmResult | None:
        """The arm of that name, or None if it was not scored."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def metric(self, name: str) -> Metric:
        """The metric of that name. Raises UserError with the legal names."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        legal = ", ".join(metric.name for metric in self.metrics)
        raise UserError(f"no metric {name!r}; legal: {legal}")

    @property
    def panels(self) -> dict[str, tuple[Metric, ...]]:
        """Panel -> its metrics that any arm has, the main panel first.

        A metric that stands beside another one is left out.
        """
        beside = {metric.beside for metric in self.metrics}
        panels: dict[str, tuple[Metric, ...]] = {}
        for metric in self.metrics:
            if metric.name not in beside and any(metric.name in arm.values for arm in self.arms):
                panels[metric.panel] = (*panels.get(metric.panel, ()), metric)
        return panels

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds that any arm has."""
        return tuple(sorted({seed for arm in self.arms for seed in arm.seeds}))

    @property
    def basis(self) -> str:
        """What the intervals and p values rest on, in one sentence."""
        drawn = f"{self.items} items"
        if self.clusters < self.items:
            drawn += f" in {self.clusters} clusters"
        basis = f"{self.level:.0%} intervals from {self.bootstrap} bootstrap resamples of {drawn}"
        exact = [metric.label for metric in self.metrics if metric.interval == "wilson"]
        if exact and self.clusters == self.items and len(self.seeds) == 1:
            basis += f", but Wilson's and exact p for {', '.join(exact)}"
        return basis

    @property
    def test(self) -> str:
        """How arms are held against the baseline, in one sentence; empty without a comparison."""
        others = sum(bool(arm.against) for arm in self.arms)
        if not others:
            return ""
        return (
            f"p: two-sided paired bootstrap against {self.arm(self.baseline).title}, "
            f"Holm-corrected per metric over {others} comparison{'s' if others > 1 else ''}"
        )


def read_scores(run_dir: Path, arms: Sequence[str]) -> dict[str, dict[int, Table]]:
    """Arm -> seed -> the items in `seed-*/ARM/scores.json`, for these arms in this order.

    Raises UserError if the folder holds none.
    """
    scores: dict[str, dict[int, Table]] = {}
    for arm in arms:
        for seed, folder in seed_folders(run_dir):
            path = folder / arm / "scores.json"
            if path.is_file():
                scores.setdefault(arm, {})[seed] = read_summary(path)
    if not scores:
        raise UserError(
            f"{run_dir} holds no scored arm (no seed-*/ARM/scores.json in it); "
            f"run the experiment's `reproduce --run-dir {run_dir}` first"
        )
    return scores


def seed_folders(run_dir: Path) -> list[tuple[int, Path]]:
    """The seed folders of a run folder, in order of seed."""
    folders = [(path.name.removeprefix("seed-"), path) for path in run_dir.glob("seed-*")]
    return sorted((int(seed), path) for seed, path in folders if seed.isdecimal())


def collect(
    run_dir: Path,
    *,
    arms: Sequence[tuple[str, str]],
    metrics: tuple[Metric, ...],
    baseline: str | None = None,
    bootstrap: int = 10_000,
    level: float = 0.95,
) -> Results:
    """Reads every scored arm of the run folder and compares each with `baseline`.

    `arms` are (name, title) in the order of tables. The baseline is the first scored arm unless
    named. Raises UserError if there is nothing to read, the baseline was not scored, or the seeds
    of an arm do not fit together.
    """
    return assemble(
        read_scores(run_dir, [name for name, _ in arms]),
        titles=dict(arms),
        metrics=metrics,
        source=str(run_dir),
        baseline=baseline,
        bootstrap=bootstrap,
        level=level,
    )


def assemble(
    scores: Mapping[str, Mapping[int, Table]],
    *,
    titles: Mapping[str, str],
    metrics: tuple[Metric, ...],
    source: str,
    baseline: str | None = None,
    bootstrap: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Results:
    """Results of scored systems, name -> seed -> table; otherwise as `collect`."""
    baseline = next(iter(scores)) if baseline is None else baseline
    if baseline not in scores:
        raise UserError(f"{source}: no scored arm {baseline!r}; legal: {', '.join(scores)}")
    split = {
        name: {seed: split_columns(table, metrics) for seed, table in by_seed.items()}
        for name, by_seed in scores.items()
    }
    pooled = {name: _pooled(source, name, by_seed) for name, by_seed in split.items()}
    options = {"samples": bootstrap, "level": level, "seed": seed}
    # Pairs are items of one seed, so an arm without a seed in common has none.
    comparable = {
        name: table
        for name, table in pooled.items()
        if name != baseline and scores[name].keys() & scores[baseline].keys()
    }
    against = compare_systems(pooled[baseline], comparable, metrics, **options)
    first = next(iter(scores[baseline].values()))
    return Results(
        source=source,
        arms=tuple(
            ArmResult(
                name=name,
                title=titles[name],
                seeds=tuple(by_seed),
                values=_means(by_seed),
                intervals=mean_intervals(pooled[name], metrics, **options),
                against=against.get(name, {}),
            )
            for name, by_seed in split.items()
        ),
        metrics=metrics,
        titles=titles,
        groups={name: tuple(sorted(set(labels))) for name, labels in first.groups.items()},
        items=len(first),
        clusters=len(set(first.clusters)),
        baseline=baseline,
        level=level,
        bootstrap=bootstrap,
    )


def _pooled(source: str, arm: str, by_seed: Mapping[int, Table]) -> Table:
    try:
        return pool_seeds(by_seed)
    except UserError as error:
        raise UserError(f"{source}, arm {arm}: {error}") from None


def _means(by_seed: Mapping[int, Table]) -> dict[str, tuple[float, ...]]:
    first, *others = [table.values for table in by_seed.values()]
    return {
        column: tuple(nan_mean(values[column]) for values in (first, *others))
        for column in first
        if all(column in values for values in others)
    }


__all__ = [
    "ArmResult",
    "Results",
    "assemble",
    "collect",
    "read_scores",
    "seed_folders",
]
