"""How often values occur, as outlines that can lie over one another."""

from collections.abc import Mapping, Sequence
from html import escape

from experiments.common.report.charts.axes import Axes, figure, padded

_BINS = 24


def histogram(
    title: str,
    values: Mapping[str, Sequence[float]],
    styles: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
) -> str:
    """The share of values in each of 24 bins as steps, one outline per key (a series' label).

    `labels` says what to call a key, which is its own name unless given.
    """
    present = {name: data for name, data in values.items() if data}
    if not present:
        return ""
    low, high = padded([v for data in present.values() for v in data], 0.0)
    outlines: dict[str, list[float]] = {}
    for name, data in present.items():
        counts = [0] * _BINS
        for value in data:
            counts[min(_BINS - 1, int((value - low) / (high - low) * _BINS))] += 1
        outlines[name] = [count / len(data) for count in counts]
    peak = max(share for shares in outlines.values() for share in shares)
    axes = Axes([low, high], [0.0, peak])
    edges = [axes.x(low + (high - low) * i / _BINS) for i in range(_BINS + 1)]
    parts = [axes.draw("value", "share")]
    called = {name: (labels or {}).get(name, name) for name in present}
    for name, shares in outlines.items():
        steps = "".join(f"V{axes.y(share)}H{edges[i + 1]}" for i, share in enumerate(shares))
        floor = axes.y(0.0)
        outline = f"M{edges[0]} {floor}{steps}V{floor}"
        parts.append(
            f'<g class="{styles[name]}" data-series="{escape(name)}">'
            f'<path class="band" d="{outline}Z"/><path class="line" d="{outline}"/>'
            f"<title>{escape(called[name])}: {len(present[name])} values</title></g>"
        )
    summary = ", ".join(f"{called[name]} {len(data)} values" for name, data in present.items())
    return figure(
        title, f"Histogram of {title}: {summary}", "".join(parts), axes.width, axes.height
    )


__all__ = ["histogram"]
