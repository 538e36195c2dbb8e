"""The findings as one self-contained HTML page, with what the pages of all experiments share."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from experiments.common.report.charts import Entry, legend, line_chart, trail_chart
from experiments.common.report.charts.svg import element, joined
from experiments.common.report.claims import verdict_list
from experiments.common.report.comparisons import charts
from experiments.common.report.page import write_page
from experiments.common.report.tables import table
from experiments.reward_design.results import Cell, Findings, LineFigure, TrailFigure


def write_findings(findings: Sequence[Findings], out: Path) -> Path:
    """Writes the page to `out` and returns `out`; one section per study."""
    return write_page("Reward design", {one.title: _section(one) for one in findings}, out)


def _section(findings: Findings) -> Markup:
    command = element("code", f"python -m experiments.reward_design run {findings.name}")
    tables = (
        table(one.columns, [[_shown(value) for value in row] for row in one.rows], title=one.title)
        for one in findings.tables
    )
    return joined(
        [
            element("p", command, f": {findings.basis()}."),
            verdict_list(findings.claims),
            *tables,
            _legend(findings),
            charts(_chart(figure) for figure in findings.figures),
        ]
    )


def _shown(value: str | int | Cell) -> str:
    if not isinstance(value, Cell):
        return str(value)
    spread = "" if value.spread is None else f"±{value.spread:.{value.digits}f}"
    mean = f"{value.mean:.{value.digits}f}"
    return joined([mean, element("span", spread, css="spread")])


def _chart(figure: LineFigure | TrailFigure) -> Markup:
    if isinstance(figure, TrailFigure):
        return trail_chart(
            figure.title, figure.trails, x_label=figure.x_label, y_label=figure.y_label
        )
    return line_chart(figure.title, figure.series, x_label=figure.x_label)


def _legend(findings: Findings) -> Markup:
    shown = {
        one.key: Entry(one.key, one.label, one.style)
        for figure in findings.figures
        for one in (figure.series if isinstance(figure, LineFigure) else figure.trails)
    }
    return legend(list(shown.values()), label="Lines shown")


__all__ = ["write_findings"]
