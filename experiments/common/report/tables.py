"""Tables of a page: every arm by metric, parts by arm, and any rows under their columns."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from experiments.common.report.charts.svg import element
from experiments.common.report.rendering import render
from experiments.common.report.runs import Run, Section, by_run
from experiments.common.scores.metric import Better, Metric
from experiments.common.scores.results import ArmResult, Results
from experiments.common.scores.results_tables import SIGNIFICANT


@dataclasses.dataclass(frozen=True)
class HeatCell:
    """One number; `note` is what a pointer on it tells."""

    value: float
    note: str = ""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> Markup:
    """Rows of texts or markup under their columns; the first of each row is its name."""
    label = title or "Table"
    return render("table.html", title=title, label=label, columns=columns, rows=rows)


def heat_map(
    rows: Mapping[str, Sequence[HeatCell | None]],
    columns: Sequence[str],
    *,
    better: Better = "",
    digits: int = 3,
    label: str = "Heat map",
) -> Markup:
    """A table whose cells are shaded by their share of the largest value.

    `better` chooses the colour: a warning where less is better, praise where more is.
    """
    top = max((cell.value for row in rows.values() for cell in row if cell is not None), default=0)
    values = {"rows": rows, "columns": columns, "better": better, "digits": digits}
    return render("heat_map.html", **values, top=top, label=label)


def results_tables(runs: Sequence[Run]) -> Markup:
    """A section: arms by metric, a table per panel of metrics to choose from."""
    return by_run(runs, _results)


def group_table(group: str, metric: str, *, note: str = "") -> Section:
    """A section: the labels of `group` by arms, shaded by `metric`; `note` explains it."""
    return lambda runs: by_run(runs, lambda run: _by_label(run, group, metric, note))


def beside_range(runs: Sequence[Run], metric: Metric) -> str:
    """The range over arms of what is shown beside the metric, in words; empty without it."""
    known = [arm.mean(metric.beside) for run in runs for arm in run.results.arms if metric.beside]
    known = [value for value in known if not math.isnan(value)]
    if not known:
        return ""
    label = runs[0].results.metric(metric.beside).heading
    return f"{label} {min(known):.3f} to {max(known):.3f}"


def bounds(arm: ArmResult, metric: str) -> tuple[float, float] | None:
    """The interval of an arm's metric; None where it has none."""
    interval = arm.intervals.get(metric)
    return None if interval is None or math.isnan(interval.low) else (interval.low, interval.high)


def _results(run: Run) -> Markup:
    results = run.results
    panels = [
        {
            "id": re.sub("[^a-zA-Z0-9]+", "-", f"results-{run.label}-{name}"),
            "name": name or "all",
            "metrics": metrics,
            "rows": [_row(results, arm, metrics) for arm in results.arms],
        }
        for name, metrics in results.panels.items()
    ]
    seeds = len(results.seeds)
    over = f"Means over {seeds} seeds, ± their standard deviation" if seeds > 1 else "One seed"
    test = f" {results.test}; bold below {SIGNIFICANT:g}." if results.test else ""
    note = f"{over}; {results.basis}.{test} ↑ more is better, ↓ less is; ★ is the best mean."
    return render("results.html", note=note, panels=panels)


def _row(results: Results, arm: ArmResult, metrics: Sequence[Metric]) -> dict[str, Any]:
    return {
        "title": arm.title,
        "base": bool(results.test) and arm.name == results.baseline,
        "cells": [_cell(results, arm, metric) for metric in metrics],
    }


def _cell(results: Results, arm: ArmResult, metric: Metric) -> dict[str, Any] | None:
    mean, spread, digits = arm.mean(metric.name), arm.spread(metric.name), metric.digits
    if math.isnan(mean):
        return None
    lines = [] if math.isnan(spread) else [f"±{spread:.{digits}f}"]
    if (interval := bounds(arm, metric.name)) is not None:
        lines.append(" to ".join(f"{bound:.{max(digits - 1, 0)}f}" for bound in interval))
    lines += _beside(results, arm, metric, metric)
    return {
        "best": _is_best(results, arm, metric),
        "value": f"{mean:.{digits}f}",
        "lines": lines,
        "change": _change(arm, metric),
    }


def _is_best(results: Results, arm: ArmResult, metric: Metric) -> bool:
    known = [mean for one in results.arms if not math.isnan(mean := one.mean(metric.name))]
    if not metric.better or len(known) < 2:
        return False
    return arm.mean(metric.name) == (max(known) if metric.better == "more" else min(known))


def _change(arm: ArmResult, metric: Metric) -> dict[str, str] | None:
    found = arm.against.get(metric.name)
    if found is None or math.isnan(found.difference):
        return None
    gap = found.difference
    css = ["change"]
    if metric.better and gap:
        css.append("better" if (gap > 0) == (metric.better == "more") else "worse")
    if found.p_holm < SIGNIFICANT:
        css.append("sure")
    shown = f"{gap:+.{max(metric.digits - 1, 0)}f}".replace("-", "\N{MINUS SIGN}")
    sign = "▲" if gap > 0 else "▼" if gap < 0 else "="
    p_value = f"{found.p_holm:.3f}" if found.p_holm >= 0.001 else "< 0.001"
    about = (
        f"difference {gap:+.4f} ({found.low:+.4f} to {found.high:+.4f}), "
        f"p {found.p_value:.4f}, corrected {found.p_holm:.4f}, {found.count} pairs"
    )
    return {"css": " ".join(css), "about": about, "text": f"{sign} {shown}, p {p_value}"}


def _by_label(run: Run, group: str, name: str, note: str) -> Markup:
    results, metric = run.results, run.results.metric(name)
    rows: dict[str, list[HeatCell | None]] = {}
    for label in results.groups.get(group, ()):
        part = metric.part(label)
        cells = [_heat(results, arm, metric, part) for arm in results.arms]
        if any(cell is not None for cell in cells):
            counts = [arm.intervals[part.name].count for arm in results.arms
                      if part.name in arm.intervals]  # fmt: skip
            rows[f"{label} ({max(counts)})" if counts else label] = cells
    if not rows:
        return Markup("")
    darker = {"less": " Darker is worse.", "more": " Darker is better.", "": ""}[metric.better]
    beside = f" {found}." if (found := beside_range([run], metric)) else ""
    label = f"{metric.label} by {group}"
    text = f"{label}; in brackets the items it rests on.{darker} {note}{beside}"
    titles = [arm.title for arm in results.arms]
    shown = heat_map(rows, titles, better=metric.better, label=label)
    return element("p", text, css="quiet") + shown


def _heat(results: Results, arm: ArmResult, metric: Metric, part: Metric) -> HeatCell | None:
    mean = arm.mean(part.name)
    if math.isnan(mean):
        return None
    note = arm.title
    if (interval := arm.intervals.get(part.name)) is not None:
        note += f": {interval.low:.3f} to {interval.high:.3f}, {interval.count} items"
    return HeatCell(
        mean, note + "".join(f", {line}" for line in _beside(results, arm, metric, part))
    )


def _beside(results: Results, arm: ArmResult, metric: Metric, part: Metric) -> list[str]:
    """What stands beside the metric, over the items of one part of it, in words."""
    mean = arm.mean(part.beside) if part.beside else math.nan
    known = not math.isnan(mean)
    return [f"{results.metric(metric.beside).heading} {mean:.3f}"] if known else []


__all__ = [
    "HeatCell",
    "beside_range",
    "bounds",
    "group_table",
    "heat_map",
    "results_tables",
    "table",
]
