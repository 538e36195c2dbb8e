"""Estimates with their intervals, one under the other, so that overlap can be seen."""

import dataclasses
from collections.abc import Sequence
from html import escape

from experiments.common.report.charts.axes import WIDTH, figure, marker, padded, ticks

_ROW, _HEAD, _FOOT = 22, 8, 30
_NAMES = 138  # picture units for the names at the left


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One row: a value with its interval; `note` is told beside the numbers."""

    key: str
    label: str
    style: str
    value: float
    low: float
    high: float
    note: str = ""
    faint: bool = False  # drawn hollow: not distinguishable from the reference


def interval_chart(
    title: str, rows: Sequence[Estimate], *, reference: float | None = None, x_label: str = ""
) -> str:
    """A mark and a whisker per row; `reference` draws a line, such as no difference at all."""
    if not rows:
        return ""
    values = [value for row in rows for value in (row.value, row.low, row.high)]
    low, high = padded([*values, *([] if reference is None else [reference])], 0.05)
    bottom = _HEAD + _ROW * len(rows)
    right = WIDTH - 12

    def place(value: float) -> float:
        return round(_NAMES + (value - low) / (high - low) * (right - _NAMES), 2)

    parts = []
    for tick in ticks(low, high):
        x = place(tick)
        parts.append(f'<path class="grid" d="M{x} {_HEAD}V{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 13}" class="mid">{tick:g}</text>')
    if reference is not None:
        parts.append(f'<path class="reference" d="M{place(reference)} {_HEAD}V{bottom}"/>')
    if x_label:
        parts.append(f'<text x="{right}" y="{bottom + 27}" class="end">{escape(x_label)}</text>')
    for number, row in enumerate(rows):
        y = _HEAD + _ROW * number + _ROW / 2
        css = "dot hollow" if row.faint else "dot"
        parts.append(
            f'<g class="{row.style}" data-series="{escape(row.key)}">'
            f'<text class="name" x="{_NAMES - 8}" y="{y + 4}" text-anchor="end">'
            f"{escape(row.label)}</text>"
            f'<path class="whisker" d="M{place(row.low)} {y}H{place(row.high)}"/>'
            f"{marker(row.style, place(row.value), y, 5, css=css)}"
            f"<title>{escape(_about(row))}</title></g>"
        )
    summary = "; ".join(_about(row) for row in rows)
    return figure(title, f"{title}: {summary}", "".join(parts), WIDTH, bottom + _FOOT)


def _about(row: Estimate) -> str:
    note = f", {row.note}" if row.note else ""
    return f"{row.label}: {row.value:.4f} ({row.low:.4f} to {row.high:.4f}){note}"


__all__ = ["Estimate", "interval_chart"]
