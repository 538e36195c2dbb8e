"""Arms against each other: a trade-off of two metrics, gaps to the baseline, parts of a group."""

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from experiments.common.report.charts import (
    Dot,
    Estimate,
    interval_chart,
    scatter_chart,
)
from experiments.common.report.charts.svg import element, joined
from experiments.common.report.runs import Run, Section, arm_legend, by_run
from experiments.common.report.tables import beside_range, bounds
from experiments.common.scores.metric import Better, Metric
from experiments.common.scores.results import ArmResult
from experiments.common.scores.results_tables import SIGNIFICANT


def trade_off(x: str, y: str) -> Section:
    """A section: metric `y` over metric `x`, with intervals, single seeds, and the front."""
    return lambda runs: _trade_off(runs, x, y)


def differences(runs: Sequence[Run]) -> Markup:
    """A section: every arm minus the baseline of its run, by the metrics of the main panel."""
    return by_run(runs, _differences)


def split(group: str, metrics: Sequence[str], *, note: str) -> Section:
    """A section: these metrics over the items of each label of `group`; `note` explains it."""

    def section(runs: Sequence[Run]) -> Markup:
        drawn = by_run(runs, lambda run: _split(run, group, metrics))
        return drawn and quiet(note) + drawn

    return section


def quiet(text: str) -> Markup:
    """A note below a heading."""
    return element("p", text, css="quiet") if text else Markup("")


def charts(drawn: Iterable[Markup]) -> Markup:
    """Charts side by side; empty without any."""
    kept = [chart for chart in drawn if chart]
    return element("div", *kept, css="charts") if kept else Markup("")


def _trade_off(runs: Sequence[Run], x: str, y: str) -> Markup:
    metrics = [runs[0].results.metric(name) for name in (x, y)]
    directions = (metrics[0].better, metrics[1].better)
    dots = []
    for run in runs:
        for arm in run.results.arms:
            means = (arm.mean(x), arm.mean(y))
            if any(map(math.isnan, means)):
                continue
            pairs = zip(arm.values[x], arm.values[y])
            seeds = [pair for pair in pairs if not any(map(math.isnan, pair))]
            dots.append(
                Dot(
                    key=run.key(arm.name),
                    label=run.name(arm.title),
                    style=run.style(arm.name),
                    x=means[0],
                    y=means[1],
                    seeds=seeds if len(seeds) > 1 else (),
                    x_interval=bounds(arm, x),
                    y_interval=bounds(arm, y),
                )
            )
    labels = [
        f"{metric.label} ({beside})" if (beside := beside_range(runs, metric)) else metric.label
        for metric in metrics
    ]
    title = f"{metrics[1].label} over {metrics[0].label}{_corner(*directions)}"
    chart = scatter_chart(title, dots, x_label=labels[0], y_label=labels[1], better=directions)
    return chart and joined([arm_legend(runs), chart])


def _corner(x: Better, y: Better) -> str:
    """Which corner is the best, in words; empty where a direction is not told."""
    if not (x and y):
        return ""
    side = {"less": "left", "more": "right"}[x]
    height = {"less": "lower", "more": "upper"}[y]
    return f": {height} {side} is better; the dotted line joins the arms that no other one beats"


def _differences(run: Run) -> Markup:
    if not run.results.test:
        return Markup("")
    main = next(iter(run.results.panels.values()), ())
    drawn = charts(
        interval_chart(
            metric.label,
            [row for arm in run.results.arms if (row := _gap(run, arm, metric))],
            reference=0.0,
        )
        for metric in main
    )
    note = (
        f"Paired difference from {run.results.arm(run.results.baseline).title}, with its "
        f"interval. Hollow marks: not significant at {SIGNIFICANT:g} after Holm's correction."
    )
    return drawn and quiet(note) + drawn


def _gap(run: Run, arm: ArmResult, metric: Metric) -> Estimate | None:
    found = arm.against.get(metric.name)
    if found is None or math.isnan(found.low):
        return None
    return Estimate(
        key=run.key(arm.name),
        label=arm.title,
        style=run.style(arm.name),
        value=found.difference,
        low=found.low,
        high=found.high,
        note=f"p {found.p_holm:.4f}",
        faint=found.p_holm >= SIGNIFICANT,
    )


def _split(run: Run, group: str, metrics: Sequence[str]) -> Markup:
    return charts(
        interval_chart(
            part.label,
            [row for arm in run.results.arms if (row := _part(run, arm, part.name))],
        )
        for name in metrics
        for label in run.results.groups.get(group, ())
        for part in [run.results.metric(name).part(label)]
    )


def _part(run: Run, arm: ArmResult, column: str) -> Estimate | None:
    if (interval := bounds(arm, column)) is None:
        return None
    return Estimate(
        key=run.key(arm.name),
        label=arm.title,
        style=run.style(arm.name),
        value=arm.mean(column),
        low=interval[0],
        high=interval[1],
        note=f"{arm.intervals[column].count} items",
    )


__all__ = ["charts", "differences", "quiet", "split", "trade_off"]
