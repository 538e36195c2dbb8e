"""Arms as marks in a plane, with the front of those that no other one beats."""

import dataclasses
import math
from collections.abc import Sequence

from markupsafe import Markup

from experiments.common.report.charts.axes import Axes, figure
from experiments.common.report.charts.styles import Style
from experiments.common.report.charts.svg import element, path
from experiments.common.scores.metric import Better

_LINE = 16  # picture units that one label needs
_MOST_NAMES = 8  # more of them would cover the marks; the legend tells them then


@dataclasses.dataclass(frozen=True)
class Dot:
    """One arm in the scatter plot: its mean, its intervals, and the single seeds around it."""

    key: str
    label: str
    style: Style
    x: float
    y: float
    seeds: Sequence[tuple[float, float]] = ()
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


def scatter_chart(
    title: str,
    dots: Sequence[Dot],
    *,
    x_label: str,
    y_label: str,
    better: tuple[Better, Better] = ("", ""),
) -> Markup:
    """Arms as marks with their intervals.

    `better` is of x and y: where both have a direction, a line joins the arms that no other one
    beats.
    """
    if not dots:
        return Markup("")
    xs = [x for dot in dots for x in (dot.x, *(dot.x_interval or ()), *(s[0] for s in dot.seeds))]
    ys = [y for dot in dots for y in (dot.y, *(dot.y_interval or ()), *(s[1] for s in dot.seeds))]
    axes = Axes(xs, ys, wide=True, x_margin=0.08, y_margin=0.08)
    parts = [axes.draw(x_label, y_label)]
    points = [(dot.x, dot.y) for dot in dots]
    if all(better):
        front = [points[i] for i in pareto_front(points, better=better)]
        parts.append(path("front", axes.line(front)))
    about = [_about(dot, x_label, y_label) for dot in dots]
    for dot, label_y, told in zip(dots, _label_heights(dots, axes), about):
        x, y = axes.x(dot.x), axes.y(dot.y)
        marks = []
        if dot.x_interval is not None:
            low, high = map(axes.x, dot.x_interval)
            marks.append(path("whisker", f"M{low} {y}H{high}"))
        if dot.y_interval is not None:
            low, high = map(axes.y, dot.y_interval)
            marks.append(path("whisker", f"M{x} {low}V{high}"))
        marks += [dot.style.mark(axes.x(a), axes.y(b), 3, "seed") for a, b in dot.seeds]
        marks.append(dot.style.mark(x, y, 6.5))
        if len(dots) <= _MOST_NAMES:
            side = _side(axes, x)
            anchor = "end" if side < 0 else "start"
            place = {"x": x + side * 11, "y": label_y, "text_anchor": anchor}
            marks.append(element("text", dot.label, css="name", **place))
        marks.append(element("title", told))
        parts.append(element("g", *marks, css=dot.style.css, data_series=dot.key))
    return figure(title, f"{title}: {'; '.join(about)}", parts, axes.width, axes.height)


def pareto_front(
    points: Sequence[tuple[float, float]], *, better: tuple[Better, Better]
) -> list[int]:
    """Positions of the points that no other is better than in both, from the best x on.

    `better` is "more" or "less", of x and of y.
    """
    signs = [1.0 if direction == "less" else -1.0 for direction in better]
    costs = [(signs[0] * x, signs[1] * y) for x, y in points]
    front: list[int] = []
    best = math.inf
    for i in sorted(range(len(costs)), key=lambda i: costs[i]):
        if costs[i][1] < best:
            front.append(i)
            best = costs[i][1]
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
