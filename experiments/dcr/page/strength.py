"""A section: the trade-off over the strength of refusing, by arm."""

import math
import statistics
from collections.abc import Sequence

from markupsafe import Markup

from experiments.common.report.charts import Trail
from experiments.common.report.charts.lines import trail_chart
from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import quiet
from experiments.common.report.runs import Run, arm_legend, by_run
from experiments.common.report.tables import table
from experiments.common.scores.results import ArmResult
from experiments.common.scores.summaries import read_summary
from experiments.common.scores.table import Table, pool_seeds
from experiments.dcr.trade_off import area, curve, probabilities

__all__ = ["strength"]

_X, _Y = "toxic refused", "seemingly toxic not refused"


def strength(runs: Sequence[Run]) -> Markup:
    """The curve over thresholds of the refusal probability, and its area by arm."""
    shown = by_run(runs, _strength)
    note = quiet(
        "If a prompt were refused from a refusal probability on: each point is a threshold, all "
        "seeds together. The area is the chance that a toxic prompt is refused more surely than a "
        "seemingly toxic one; 0.5 is chance, and how strict the arm is does not matter."
    )
    return shown and joined([note, arm_legend(runs), shown])


def _strength(run: Run) -> Markup:
    trails, rows = [], []
    for arm in run.results.arms:
        tables = _tables(run, arm)
        sides = probabilities(pool_seeds(tables))
        points = [(x, y, _threshold(level)) for x, y, level in curve(*sides)]
        if not points:
            continue
        style = run.style(arm.name)
        trails.append(Trail(run.key(arm.name), run.name(arm.title), style, points))
        areas = [area(*probabilities(one)) for one in tables.values()]
        spread = f"{statistics.stdev(areas):.3f}" if len(areas) > 1 else "-"
        rows.append([arm.title, f"{statistics.fmean(areas):.3f}", spread])
    if not trails:
        return Markup("")
    columns = ("arm", "area under the curve", "deviation over seeds")
    chart = trail_chart(f"{_Y} over {_X}", trails, x_label=_X, y_label=_Y)
    return joined([chart, table(columns, rows)])


def _tables(run: Run, arm: ArmResult) -> dict[int, Table]:
    return {
        seed: read_summary(run.path / f"seed-{seed}" / arm.name / "scores.json")
        for seed in arm.seeds
    }


def _threshold(level: float) -> str:
    if math.isinf(level):
        return "refusing all" if level < 0 else "refusing none"
    return f"refused from probability {math.exp(level):.2g} on"
