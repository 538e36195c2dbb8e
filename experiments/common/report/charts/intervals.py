"""Estimates with their intervals, one under the other, so that overlap can be seen."""

import dataclasses
from collections.abc import Sequence

from markupsafe import Markup

from experiments.common.report.charts.axes import WIDTH, figure, padded, ticks
from experiments.common.report.charts.styles import Style
from experiments.common.report.charts.svg import element, path

_ROW, _HEAD, _FOOT = 22, 8, 30
_NAMES = 138  # picture units for the names at the left


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One row: a value with its interval; `note` is told beside the numbers."""

    key: str
    label: str
    style: Style
    value: float
    low: float
    high: float
    note: str = ""
    faint: bool = False  # drawn hollow: not distinguishable from the reference


def interval_chart(
    title: str, rows: Sequence[Estimate], *, reference: float | None = None, x_label: str = ""
) -> Markup:
    """A mark and a whisker per row; `reference` draws a line, such as no difference at all."""
    if not rows:
        return Markup("")
    values = [value for row in rows for value in (row.value, row.low, row.high)]
    low, high = padded([*values, *([] if reference is None else [reference])], 0.05)
    bottom = _HEAD + _ROW * len(rows)
    right = WIDTH - 12

    def place(value: float) -> float:
        return round(_NAMES + (value - low) / (high - low) * (right - _NAMES), 2)

    parts = []
    for tick in ticks(low, high):
        x = place(tick)
        parts.append(path("grid", f"M{x} {_HEAD}V{bottom}"))
        parts.append(element("text", f"{tick:g}", css="mid", x=x, y=bottom + 13))
    if reference is not None:
        parts.append(path("reference", f"M{place(reference)} {_HEAD}V{bottom}"))
    if x_label:
        parts.append(element("text", x_label, css="end", x=right, y=bottom + 27))
    for number, row in enumerate(rows):
        y = _HEAD + _ROW * number + _ROW / 2
        parts.append(
            element(
                "g",
                element("text", row.label, css="name", x=_NAMES - 8, y=y + 4, text_anchor="end"),
                path("whisker", f"M{place(row.low)} {y}H{place(row.high)}"),
                row.style.mark(place(row.value), y, 5, "dot hollow" if row.faint else "dot"),
                element("title", _about(row)),
                css=row.style.css,
                data_series=row.key,
            )
        )
    summary = "; ".join(_about(row) for row in rows)
    return figure(title, f"{title}: {summary}", parts, WIDTH, bottom + _FOOT)


def _about(row: Estimate) -> str:
    note = f", {row.note}" if row.note else ""
    return f"{row.label}: {row.value:.4f} ({row.low:.4f} to {row.high:.4f}){note}"


__all__ = ["Estimate", "interval_chart"]
