"""The scored arms of a run folder: means over seeds, intervals, and each arm against a baseline.

A run folder holds `seed-*/ARM/scores.json` for every arm that was scored. Means and deviations are
over seeds; intervals and p values are over conversations, all seeds of an arm together
(`statistics.pool_seeds`).
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.scores.intervals import (
    Comparison,
    Interval,
    bootstrap_intervals,
    compare_systems,
    pool_seeds,
    with_parts,
)
from experiments.saferec.arms import ARMS
from experiments.saferec.evaluation.metrics import MetricTable, nan_mean
from experiments.saferec.evaluation.summaries import (
    LIST_LABELS,
    METRIC_LABELS,
    finite,
    plain,
    read_summary,
    write_json,
)
from gdpo_jax.errors import UserError

# The cut-off that verdicts, plots and splits go by.
MAIN_K = 10
_BY_TRAIT = (f"recall@{MAIN_K}", f"svr@{MAIN_K}", f"coverage@{MAIN_K}")


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One arm: `values` maps a metric to its mean over test conversations, one entry per seed.

    "metric/label" is the metric over one part of the conversations, by sensitivity or by how it
    was said. An entry is NaN where the metric applies to no conversation. `intervals` and
    `against` (empty for the baseline itself) have the same keys.
    """

    name: str
    title: str  # how tables call it
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]
    intervals: Mapping[str, Interval] = dataclasses.field(default_factory=dict)
    against: Mapping[str, Comparison] = dataclasses.field(default_factory=dict)

    def coverage_of(self, metric: str) -> float:
        """The share of titles that the oracle knew where it judged `metric` (svr@K, svr@K/part)."""
        return self.mean(metric.replace("svr", "coverage", 1))

    def mean(self, metric: str) -> float:
        """The mean over the seeds that have the metric; NaN if none has."""
        known = self._known(metric)
        return statistics.fmean(known) if known else math.nan

    def spread(self, metric: str) -> float:
        """The standard deviation over seeds, n - 1 in the denominator; NaN for fewer than two."""
        known = self._known(metric)
        return statistics.stdev(known) if len(known) > 1 else math.nan

    def _known(self, metric: str) -> list[float]:
        return [value for value in self.values.get(metric, ()) if not math.isnan(value)]


@dataclasses.dataclass(frozen=True)
class Results:
    """Scored arms, or other systems, in the order of tables."""

    source: str  # the run folder or the records
    arms: tuple[ArmResult, ...]
    ks: tuple[int, ...] = (5, 10)  # cut-offs that every arm was scored at
    groups: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # part labels
    conversations: int = 0
    baseline: str = ""  # the arm that `against` speaks of
    level: float = 0.95  # of the intervals
    bootstrap: int = 0  # resamples behind intervals and p values

    def arm(self, name: str) -> ArmResult | None:
        """The arm of that name, or None if it was not scored."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds that any arm has."""
        return tuple(sorted({seed for arm in self.arms for seed in arm.seeds}))

    @property
    def metrics(self) -> dict[str, str]:
        """Metric -> label of all that is measured over all conversations."""
        at = {f"{prefix}@{k}": f"{label}@{k}" for k in self.ks
              for prefix, label in METRIC_LABELS.items()}  # fmt: skip
        return {**at, **LIST_LABELS}

    @property
    def basis(self) -> str:
        """What the intervals and p values rest on, in one sentence."""
        return (
            f"{self.level:.0%} intervals from {self.bootstrap} bootstrap resamples of "
            f"{self.conversations} conversations"
        )

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


def read_scores(run_dir: Path) -> dict[str, dict[int, MetricTable]]:
    """Arm -> seed -> the conversations in `seed-*/ARM/scores.json`, arms in the order of `ARMS`.

    Raises UserError if the folder holds none.
    """
    scores: dict[str, dict[int, MetricTable]] = {}
    for arm in ARMS:
        for seed, folder in seed_folders(run_dir):
            path = folder / arm.name / "scores.json"
            if path.is_file():
                scores.setdefault(arm.name, {})[seed] = read_summary(path)
    if not scores:
        raise UserError(
            f"{run_dir} holds no scored arm (no seed-*/ARM/scores.json in it); "
            f"run `python -m experiments.saferec reproduce --run-dir {run_dir}` first"
        )
    return scores


def seed_folders(run_dir: Path) -> list[tuple[int, Path]]:
    """The seed folders of a run folder, in order of seed."""
    folders = [(path.name.removeprefix("seed-"), path) for path in run_dir.glob("seed-*")]
    return sorted((int(seed), path) for seed, path in folders if seed.isdecimal())


def collect(
    run_dir: Path, *, baseline: str | None = None, bootstrap: int = 10_000, level: float = 0.95
) -> Results:
    """Reads every scored arm of the run folder and compares each with `baseline`.

    The baseline is the first scored arm unless named. Raises UserError if there is nothing to read,
    the baseline was not scored, or the seeds of an arm do not fit together.
    """
    return assemble(
        read_scores(run_dir),
        titles={arm.name: arm.title for arm in ARMS},
        source=str(run_dir),
        baseline=baseline,
        bootstrap=bootstrap,
        level=level,
    )


def assemble(
    scores: Mapping[str, Mapping[int, MetricTable]],
    *,
    titles: Mapping[str, str],
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
    pooled = {name: _pooled(source, name, by_seed) for name, by_seed in scores.items()}
    options = {"samples": bootstrap, "level": level, "seed": seed}
    # Pairs are conversations of one seed, so an arm without a seed in common has none.
    comparable = {
        name: table
        for name, table in pooled.items()
        if name != baseline and scores[name].keys() & scores[baseline].keys()
    }
    against = compare_systems(pooled[baseline], comparable, **options)
    arms = tuple(
        ArmResult(
            name=name,
            title=titles[name],
            seeds=tuple(by_seed),
            values=_means(by_seed),
            intervals=bootstrap_intervals(pooled[name], **options),
            against=against.get(name, {}),
        )
        for name, by_seed in scores.items()
    )
    first = next(iter(scores[baseline].values()))
    return Results(
        source=source,
        arms=arms,
        ks=_shared_ks(arms),
        groups={name: tuple(sorted(set(labels))) for name, labels in first.groups.items()},
        conversations=len(first),
        baseline=baseline,
        level=level,
        bootstrap=bootstrap,
    )


def _pooled(source: str, arm: str, by_seed: Mapping[int, MetricTable]) -> MetricTable:
    try:
        return _parts(pool_seeds(by_seed))
    except UserError as error:
        raise UserError(f"{source}, arm {arm}: {error}") from None


def _parts(table: MetricTable) -> MetricTable:
    """The table with columns for the parts that tables and plots show."""
    return with_parts(with_parts(table, "disclosure", tuple(table.values)), "trait", _BY_TRAIT)


def _means(by_seed: Mapping[int, MetricTable]) -> dict[str, tuple[float, ...]]:
    columns = [_parts(table).values for table in by_seed.values()]
    return {
        metric: tuple(nan_mean(one[metric]) for one in columns)
        for metric in columns[0]
        if all(metric in one for one in columns)
    }


def _shared_ks(arms: Sequence[ArmResult]) -> tuple[int, ...]:
    found = [
        {int(metric.removeprefix("recall@")) for metric in arm.values
         if metric.startswith("recall@") and "/" not in metric}
        for arm in arms
    ]  # fmt: skip
    return tuple(sorted(set.intersection(*found)))


def write_results(results: Results, path: Path, *, verdicts: Sequence[Any] = ()) -> None:
    """The numbers of the tables, and verdicts on claims, as JSON; NaN becomes null."""
    write_json(
        path,
        {
            "seeds": list(results.seeds),
            "conversations": results.conversations,
            "baseline": results.baseline,
            "bootstrap": results.bootstrap,
            "level": results.level,
            "basis": results.basis,
            "test": results.test,
            "arms": {
                arm.name: {
                    "title": arm.title,
                    "seeds": list(arm.seeds),
                    "metrics": {metric: _entry(arm, metric) for metric in arm.values},
                }
                for arm in results.arms
            },
            "verdicts": [verdict._asdict() for verdict in verdicts],
        },
    )


def _entry(arm: ArmResult, metric: str) -> dict[str, Any]:
    entry = {
        "mean": finite(arm.mean(metric)),
        "standard_deviation": finite(arm.spread(metric)),
        "by_seed": [finite(value) for value in arm.values[metric]],
    }
    if (interval := arm.intervals.get(metric)) is not None:
        entry["interval"] = plain(interval)
    if (comparison := arm.against.get(metric)) is not None:
        entry["against_baseline"] = plain(comparison)
    return entry


__all__ = [
    "MAIN_K",
    "ArmResult",
    "Results",
    "assemble",
    "collect",
    "read_scores",
    "seed_folders",
    "write_results",
]
