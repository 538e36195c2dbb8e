"""Arms as marks in a plane where more y and less x is better, with the front no other one beats."""

import dataclasses
import math
from collections.abc import Sequence
from html import escape

from experiments.common.report.charts.axes import WIDE, WIDE_HEIGHT, Axes, figure, marker

_LINE = 16  # picture units that one label needs
_MOST_NAMES = 8  # more of them would cover the marks; the legend tells them then


@dataclasses.dataclass(frozen=True)
class Dot:
    """One arm in the scatter plot: its mean, its intervals, and the single seeds around it."""

    key: str
    label: str
    style: str
    x: float
    y: float
    seeds: Sequence[tuple[float, float]] = ()
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    hollow: bool = False  # tells a second run apart


def scatter_chart(title: str, dots: Sequence[Dot], *, x_label: str, y_label: str) -> str:
    """Arms as marks with their intervals; a line joins those that no other one beats."""
    if not dots:
        return ""
    xs = [x for dot in dots for x in (dot.x, *(dot.x_interval or ()), *(s[0] for s in dot.seeds))]
    ys = [y for dot in dots for y in (dot.y, *(dot.y_interval or ()), *(s[1] for s in dot.seeds))]
    axes = Axes(xs, ys, width=WIDE, height=WIDE_HEIGHT, x_room=0.08, y_room=0.08)
    front = pareto_front([(dot.x, dot.y) for dot in dots])
    path = "L".join(f"{axes.x(dots[i].x)} {axes.y(dots[i].y)}" for i in front)
    parts = [axes.draw(x_label, y_label), f'<path class="front" d="M{path}"/>']
    for dot, label_y in zip(dots, _label_heights(dots, axes)):
        x, y = axes.x(dot.x), axes.y(dot.y)
        parts.append(f'<g class="{dot.style}" data-series="{escape(dot.key)}">')
        if dot.x_interval is not None:
            low, high = map(axes.x, dot.x_interval)
            parts.append(f'<path class="whisker" d="M{low} {y}H{high}"/>')
        if dot.y_interval is not None:
            low, high = map(axes.y, dot.y_interval)
            parts.append(f'<path class="whisker" d="M{x} {low}V{high}"/>')
        parts += [marker(dot.style, axes.x(a), axes.y(b), 3, css="seed") for a, b in dot.seeds]
        parts.append(marker(dot.style, x, y, 6.5, css="dot hollow" if dot.hollow else "dot"))
        if len(dots) <= _MOST_NAMES:
            side = _side(axes, x)
            anchor = "end" if side < 0 else "start"
            parts.append(
                f'<text class="name" x="{x + side * 11}" y="{label_y}" text-anchor="{anchor}">'
                f"{escape(dot.label)}</text>"
            )
        parts.append(f"<title>{escape(_about(dot, x_label, y_label))}</title></g>")
    summary = "; ".join(_about(dot, x_label, y_label) for dot in dots)
    return figure(title, f"{title}: {summary}", "".join(parts), WIDE, WIDE_HEIGHT, wide=True)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the points that no other has less x and more y than, in order of x."""
    front: list[int] = []
    best = -math.inf
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            front.append(i)
            best = points[i][1]
    return front


def _side(axes: Axes, x: float) -> int:
    """On which side of its mark a label stands: to the left at the right edge."""
    return -1 if x > axes.left + 0.68 * (axes.right - axes.left) else 1


def _label_heights(dots: Sequence[Dot], axes: Axes) -> list[float]:
    """The y of every label, moved down where it would cover that of a neighbour."""
    heights = [axes.y(dot.y) - 8 for dot in dots]
    placed: list[int] = []
    for i in sorted(range(len(dots)), key=lambda i: heights[i]):
        for j in placed:
            near = abs(axes.x(dots[i].x) - axes.x(dots[j].x)) < 130
            if near and heights[i] - heights[j] < _LINE:
                heights[i] = heights[j] + _LINE
        placed.append(i)
    return heights


def _about(dot: Dot, x_label: str, y_label: str) -> str:
    def told(name: str, value: float, interval: tuple[float, float] | None) -> str:
        around = "" if interval is None else f" ({interval[0]:.4f} to {interval[1]:.4f})"
        return f"{name} {value:.4f}{around}"

    return (
        f"{dot.label}: {told(x_label, dot.x, dot.x_interval)}, "
        f"{told(y_label, dot.y, dot.y_interval)}"
    )


__all__ = ["Dot", "pareto_front", "scatter_chart"]
