"""Tables whose cells are shaded by what they hold."""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape


@dataclasses.dataclass(frozen=True)
class HeatCell:
    """One number; `note` is what a pointer on it tells."""

    value: float
    note: str = ""


def heat_map(rows: Mapping[str, Sequence[HeatCell | None]], columns: Sequence[str]) -> str:
    """A table whose cells are shaded by their share of the largest value."""
    known = [cell.value for cells in rows.values() for cell in cells if cell is not None]
    top = max(known, default=0.0) or 1.0
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(_cell(cell, top) for cell in cells)}</tr>'
        for name, cells in rows.items()
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Heat map">'
        f'<table class="numbers heatmap"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(cell: HeatCell | None, top: float) -> str:
    if cell is None:
        return "<td>-</td>"
    note = f' title="{escape(cell.note)}"' if cell.note else ""
    return f'<td class="heat" style="--heat:{cell.value / top:.3f}"{note}>{cell.value:.3f}</td>'


__all__ = ["HeatCell", "heat_map"]
