"""The findings as one self-contained HTML page, with the charts that all experiments share."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from experiments.common.report.charts import Entry, legend, line_chart, trail_chart
from experiments.common.report.page import write_page
from experiments.reward_design.results import Cell, Findings, LineFigure, Table, TrailFigure


def write_findings(findings: Sequence[Findings], out: Path) -> Path:
    """Writes the page to `out` and returns `out`; one section per study."""
    return write_page("Reward design", {one.title: _section(one) for one in findings}, out)


def _section(findings: Findings) -> str:
    words = {True: ("holds", "holds"), False: ("fails", "fails"), None: ("open", "not run")}
    claims = "".join(
        f'<li class="{words[claim.holds][0]}">{escape(claim.text)}: '
        f"<b>{words[claim.holds][1]}</b>.<br>{escape(claim.numbers)}</li>"
        for claim in findings.claims
    )
    tables = "".join(_table(table) for table in findings.tables)
    charts = "".join(_chart(figure) for figure in findings.figures)
    command = f"python -m experiments.reward_design run {findings.name}"
    return (
        f"<p><code>{escape(command)}</code>: {escape(findings.basis())}.</p>"
        f'<ol class="verdicts">{claims}</ol>{tables}{_legend(findings)}'
        f'<div class="charts">{charts}</div>'
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join(
        "<tr>"
        + f'<th scope="row">{escape(str(row[0]))}</th>'
        + "".join(f"<td>{_value(value)}</td>" for value in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return (
        f"<h3>{escape(table.title)}</h3>"
        f'<div class="scroll" tabindex="0"><table class="numbers"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _value(value: str | int | Cell) -> str:
    if not isinstance(value, Cell):
        return escape(str(value))
    spread = "" if value.spread is None else f"±{value.spread:.{value.digits}f}"
    return f'{value.mean:.{value.digits}f}<span class="spread">{spread}</span>'


def _chart(figure: LineFigure | TrailFigure) -> str:
    if isinstance(figure, TrailFigure):
        return trail_chart(
            figure.title, figure.trails, x_label=figure.x_label, y_label=figure.y_label
        )
    return line_chart(figure.title, figure.series, x_label=figure.x_label)


def _legend(findings: Findings) -> str:
    shown = {
        one.key: one
        for figure in findings.figures
        for one in (figure.series if isinstance(figure, LineFigure) else figure.trails)
    }
    entries = [Entry(key, one.label, one.style, one.dashed) for key, one in shown.items()]
    return legend(entries, label="Lines shown")


__all__ = ["write_findings"]
