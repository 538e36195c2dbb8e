"""The legend: a button per series that shows or hides all of its marks on the page."""

import dataclasses
from collections.abc import Sequence
from html import escape

from experiments.common.report.charts.axes import marker


@dataclasses.dataclass(frozen=True)
class Entry:
    """One series of the legend; `dashed` tells lines and marks of a second run apart."""

    key: str
    label: str
    style: str
    dashed: bool = False


def legend(entries: Sequence[Entry], *, label: str = "Arms shown") -> str:
    """Buttons that are pressed while their series is shown."""
    buttons = "".join(_button(entry) for entry in entries)
    return f'<div class="legend" role="group" aria-label="{escape(label)}">{buttons}</div>'


def _button(entry: Entry) -> str:
    line, dot = ("line dashed", "dot hollow") if entry.dashed else ("line", "dot")
    return (
        f'<button type="button" class="{entry.style}" aria-pressed="true" '
        f'data-key="{escape(entry.key)}">'
        '<svg class="swatch" viewBox="-12 -6 24 12" aria-hidden="true">'
        f'<path class="{line}" d="M-11 0H11"/>{marker(entry.style, 0, 0, 4.2, css=dot)}</svg>'
        f"<span>{escape(entry.label)}</span></button>"
    )


__all__ = ["Entry", "legend"]
