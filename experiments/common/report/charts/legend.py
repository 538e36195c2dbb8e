"""The legend: a button per series that shows or hides all of its marks on the page."""

import dataclasses
from collections.abc import Sequence

from markupsafe import Markup

from experiments.common.report.charts.styles import Style
from experiments.common.report.charts.svg import element, path


@dataclasses.dataclass(frozen=True)
class Entry:
    """One series of the legend."""

    key: str
    label: str
    style: Style


def legend(entries: Sequence[Entry], *, label: str = "Arms shown") -> Markup:
    """Buttons that are pressed while their series is shown; empty without a series."""
    if not entries:
        return Markup("")
    buttons = [_button(entry) for entry in entries]
    return element("div", *buttons, css="legend", role="group", aria_label=label)


def _button(entry: Entry) -> Markup:
    swatch = element(
        "svg",
        path("line", "M-11 0H11"),
        entry.style.mark(0, 0, 4.2),
        css="swatch",
        viewBox="-12 -6 24 12",
        aria_hidden="true",
    )
    return element(
        "button",
        swatch,
        element("span", entry.label),
        css=entry.style.css,
        type="button",
        aria_pressed="true",
        data_key=entry.key,
    )


__all__ = ["Entry", "legend"]
