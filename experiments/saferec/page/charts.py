"""The charts of the report: trade-off, differences, splits, curves over training, distributions."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common.report.charts import (
    Dot,
    Estimate,
    Series,
    histogram,
    interval_chart,
    line_chart,
    scatter_chart,
)
from experiments.common.report.runs import Run, Trained, arm_legend, heading, style
from experiments.common.scores.results import ArmResult
from experiments.common.scores.results_tables import SIGNIFICANT
from experiments.saferec.arms import arm_named

MAIN_K = 10
# Title of a chart -> column of metrics.jsonl.
CURVES = {
    "relevance reward": "reward/relevance/mean",
    "safety reward": "reward/safety/mean",
    "count reward": "reward/count/mean",
    "completion length in tokens": "completions/length_mean",
    "KL to the reference": "kl/k3",
    "entropy": "entropy",
    "clip fraction": "clip_ratio/region_mean",
    "groups without any signal": "zero_variance_fraction",
    "loss": "loss",
}
DIAGNOSTICS = {
    "relevance: groups without variance": "reward/relevance/zero_variance_fraction",
    "safety: groups without variance": "reward/safety/zero_variance_fraction",
    "count: groups without variance": "reward/count/zero_variance_fraction",
    "relevance: share of the advantage": "advantage/share/relevance",
    "safety: share of the advantage": "advantage/share/safety",
    "count: share of the advantage": "advantage/share/count",
    "rewards in conflict": "advantage/conflict_rate",
    "rewards cancelling out": "advantage/cancellation_rate",
    "different advantages in a group": "advantage/distinct_per_group",
    "truncated completions": "completions/truncated_fraction",
    "gradient norm": "grad_norm",
    "largest gap between sampler and trainer": "sampler/gap_max",
    "tokens per second": "tokens_per_second",
}


def pareto(runs: Sequence[Run]) -> str:
    """Recall over violations, with intervals and single seeds."""
    x_metric, y_metric = f"svr@{MAIN_K}", f"recall@{MAIN_K}"
    dots = []
    for run in runs:
        for arm in run.results.arms:
            x, y = arm.mean(x_metric), arm.mean(y_metric)
            if math.isnan(x) or math.isnan(y):
                continue
            pairs = zip(arm.values[x_metric], arm.values[y_metric])
            seeds = [pair for pair in pairs if not np.isnan(pair).any()]
            dots.append(
                Dot(
                    key=run.key(arm.name),
                    label=run.name(arm.title),
                    style=style(arm.name),
                    x=x,
                    y=y,
                    seeds=seeds if len(seeds) > 1 else (),
                    x_interval=_bounds(arm, x_metric),
                    y_interval=_bounds(arm, y_metric),
                    hollow=run.dashed,
                )
            )
    chart = scatter_chart(
        "Upper left is better; the dotted line joins the arms that no other one beats",
        dots,
        x_label=f"SVR@{MAIN_K}{_known_titles(runs)}",
        y_label=f"Recall@{MAIN_K}",
    )
    return chart and arm_legend(runs) + chart


def _known_titles(runs: Sequence[Run]) -> str:
    """How much of what was listed the oracle knew, for the axis of SVR."""
    known = [arm.mean(f"coverage@{MAIN_K}") for run in runs for arm in run.results.arms]
    known = [value for value in known if not math.isnan(value)]
    if not known:
        return ""
    return f" (the oracle knows {min(known):.3f} to {max(known):.3f} of the titles)"


def differences(runs: Sequence[Run]) -> str:
    """Every arm minus the baseline of its run, metric by metric."""
    parts = []
    for run in runs:
        if not run.results.test:
            continue
        charts = [
            interval_chart(
                metric.label,
                [row for arm in run.results.arms if (row := _gap(run, arm, metric.name))],
                reference=0.0,
            )
            for metric in next(iter(run.results.panels.values()))
        ]
        drawn = "".join(charts)
        if drawn:
            title = run.results.arm(run.results.baseline).title
            note = (
                f'<p class="quiet">Paired difference from {title} over conversations, with its '
                f"interval. Hollow marks: not significant at {SIGNIFICANT:g} after Holm's "
                "correction.</p>"
            )
            parts.append(f'{heading(run)}{note}<div class="charts">{drawn}</div>')
    return "".join(parts)


def _gap(run: Run, arm: ArmResult, metric: str) -> Estimate | None:
    found = arm.against.get(metric)
    if found is None or math.isnan(found.low):
        return None
    return Estimate(
        key=run.key(arm.name),
        label=arm.title,
        style=style(arm.name),
        value=found.difference,
        low=found.low,
        high=found.high,
        note=f"p {found.p_holm:.4f}",
        faint=found.p_holm >= SIGNIFICANT,
    )


def disclosure(runs: Sequence[Run]) -> str:
    """Each arm where the sensitivity was said outright, and where life only hinted at it."""
    parts = []
    for run in runs:
        labels = run.results.groups.get("disclosure", ())
        charts = [
            interval_chart(
                f"{run.results.metric(name).label}, {label}",
                [row for arm in run.results.arms if (row := _part(run, arm, f"{name}/{label}"))],
            )
            for name in (f"recall@{MAIN_K}", f"svr@{MAIN_K}")
            for label in reversed(labels)
        ]
        drawn = "".join(charts)
        parts.append(drawn and f'{heading(run)}<div class="charts">{drawn}</div>')
    note = (
        '<p class="quiet">In some conversations the user names the sensitivity, in the others '
        "somebody's life only hints at it.</p>"
    )
    drawn = "".join(parts)
    return drawn and note + drawn


def _part(run: Run, arm: ArmResult, metric: str) -> Estimate | None:
    bounds = _bounds(arm, metric)
    if bounds is None:
        return None
    return Estimate(
        key=run.key(arm.name),
        label=arm.title,
        style=style(arm.name),
        value=arm.mean(metric),
        low=bounds[0],
        high=bounds[1],
        note=f"{arm.intervals[metric].count} lists",
    )


def _bounds(arm: ArmResult, metric: str) -> tuple[float, float] | None:
    interval = arm.intervals.get(metric)
    return None if interval is None or math.isnan(interval.low) else (interval.low, interval.high)


def curves(runs: Sequence[Run], columns: Mapping[str, str]) -> str:
    """A chart per column of metrics.jsonl that any arm wrote.

    Imitation and policy optimisation run over different steps and scales, so a column that both
    have is drawn twice.
    """
    charts = []
    for title, column in columns.items():
        kinds = [
            [
                _series(run, arm, column)
                for run in runs
                for arm in run.arms
                if arm_named(arm.result.name).supervised == supervised
            ]
            for supervised in (True, False)
        ]
        both = all(any(one.points() for one in series) for series in kinds)
        for series, kind in zip(kinds, (", imitation", ", policy")):
            charts.append(line_chart(title + kind * both, series, smooth=True))
    drawn = "".join(charts)
    legend = arm_legend(runs, among=lambda arm: any(arm.rows.values()))
    note = '<p class="quiet">Bold: a moving mean. Faint: single steps, or the range over seeds.</p>'
    return drawn and f'{note}{legend}<div class="charts">{drawn}</div>'


def _series(run: Run, arm: Trained, column: str) -> Series:
    name = arm.result.name
    lines = [
        [(row["step"], row[column]) for row in rows if column in row] for rows in arm.rows.values()
    ]
    return Series(
        key=run.key(name),
        label=run.name(arm.result.title),
        style=style(name),
        runs=[line for line in lines if line],
        dashed=run.dashed,
    )


def distributions(runs: Sequence[Run]) -> str:
    """Histograms over the kept groups, of the advantages and of every reward."""
    keys = [(run.key(arm.name), run, arm) for run in runs for arm in run.results.arms]
    styles = {key: style(arm.name) for key, _, arm in keys}
    labels = {key: run.name(arm.title) for key, run, arm in keys}

    def gather(pick: Callable[[Mapping[str, Any]], Any]) -> dict[str, list[float]]:
        found = {}
        for run in runs:
            for arm in run.arms:
                groups = [pick(sample) for kept in arm.samples.values() for sample in kept]
                numbers = [np.ravel(np.array(group, dtype=np.float64)) for group in groups]
                flat = np.concatenate(numbers) if numbers else np.zeros(0)
                found[run.key(arm.result.name)] = flat[~np.isnan(flat)].tolist()
        return found

    names = dict.fromkeys(
        name for run in runs for arm in run.arms for kept in arm.samples.values()
        for sample in kept for name in sample["rewards"]
    )  # fmt: skip
    charts = [histogram("advantages", gather(lambda sample: sample["advantages"]), styles, labels)]
    for name in names:
        values = gather(lambda sample, name=name: sample["rewards"].get(name, []))
        charts.append(histogram(f"{name} reward", values, styles, labels))
    drawn = "".join(charts)
    note = '<p class="quiet">Over the groups that the run kept as samples, all steps together.</p>'
    legend = arm_legend(runs, among=lambda arm: any(arm.samples.values()))
    return drawn and f'{note}{legend}<div class="charts">{drawn}</div>'


__all__ = [
    "CURVES",
    "DIAGNOSTICS",
    "curves",
    "differences",
    "disclosure",
    "distributions",
    "pareto",
]
