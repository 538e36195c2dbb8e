"""How often values occur, as outlines that can lie over one another."""

import dataclasses
from collections.abc import Sequence

from markupsafe import Markup

from experiments.common.report.charts.axes import Axes, figure, padded
from experiments.common.report.charts.styles import Style
from experiments.common.report.charts.svg import element, path

_BINS = 24


@dataclasses.dataclass(frozen=True)
class Values:
    """One series of numbers; `key` ties it to the legend."""

    key: str
    label: str
    style: Style
    values: Sequence[float]


def histogram(title: str, series: Sequence[Values]) -> Markup:
    """The share of values in each of 24 bins as steps, one outline per series with a value."""
    present = [one for one in series if one.values]
    if not present:
        return Markup("")
    low, high = padded([value for one in present for value in one.values], 0.0)
    shares = []
    for one in present:
        counts = [0] * _BINS
        for value in one.values:
            counts[min(_BINS - 1, int((value - low) / (high - low) * _BINS))] += 1
        shares.append([count / len(one.values) for count in counts])
    axes = Axes([low, high], [0.0, max(map(max, shares))])
    edges = [axes.x(low + (high - low) * i / _BINS) for i in range(_BINS + 1)]
    zero = axes.y(0.0)
    told = [f"{one.label}: {len(one.values)} values" for one in present]
    parts = [axes.draw("value", "share")]
    for one, heights, about in zip(present, shares, told):
        steps = "".join(f"V{axes.y(share)}H{edges[i + 1]}" for i, share in enumerate(heights))
        outline = f"M{edges[0]} {zero}{steps}V{zero}"
        parts.append(
            element(
                "g",
                path("band", f"{outline}Z"),
                path("line", outline),
                element("title", about),
                css=one.style.css,
                data_series=one.key,
            )
        )
    summary = f"Histogram of {title}: {', '.join(told)}"
    return figure(title, summary, parts, axes.width, axes.height)


__all__ = ["Values", "histogram"]
