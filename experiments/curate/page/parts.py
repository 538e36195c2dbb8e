"""A metric over the items of each label of a group, by arm: value, interval, number of items."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from experiments.common.report.rendering import render
from experiments.common.report.runs import Run
from experiments.common.report.tables import bounds
from experiments.common.scores.metric import Metric
from experiments.common.scores.results import ArmResult

__all__ = ["TEMPLATES", "parts_table"]

TEMPLATES = Path(__file__).parent / "templates"


def parts_table(run: Run, group: str, metric: str, kept: Callable[[str], bool]) -> Markup:
    """Labels of `group` downwards, arms across; empty where no arm has the metric there.

    kept: which labels.
    """
    found = run.results.metric(metric)
    rows = []
    for label in run.results.groups.get(group, ()):
        if not kept(label):
            continue
        cells = [_cell(run, arm, found, found.part(label)) for arm in run.results.arms]
        if any(cell is not None for cell in cells):
            rows.append({"name": label, "cells": cells})
    if not rows:
        return Markup("")
    return render(
        "parts.html",
        folder=TEMPLATES,
        label=f"{found.label} by {group}",
        columns=[arm.title for arm in run.results.arms],
        rows=rows,
    )


def _cell(run: Run, arm: ArmResult, metric: Metric, part: Metric) -> dict[str, Any] | None:
    mean = arm.mean(part.name)
    beside = arm.mean(part.beside) if part.beside else math.nan
    if math.isnan(mean) and math.isnan(beside):
        return None
    lines = []
    if (interval := bounds(arm, part.name)) is not None:
        lines.append(f"{interval[0]:.3f} to {interval[1]:.3f}")
    if (known := arm.intervals.get(part.name)) is not None:
        lines.append(f"of {known.count}")
    if not math.isnan(beside):
        lines.append(f"{run.results.metric(metric.beside).heading} {beside:.3f}")
    return {"value": "-" if math.isnan(mean) else f"{mean:.3f}", "lines": lines}
