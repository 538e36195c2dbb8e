"""Lines: over an axis with the range of their seeds, or through a plane in their own order."""

import dataclasses
import math
from collections.abc import Sequence

from markupsafe import Markup

from experiments.common.report.charts.axes import Axes, figure
from experiments.common.report.charts.styles import Style
from experiments.common.report.charts.svg import element, joined, path

_MOST_POINTS = 300


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: `runs` holds [(x, y), ...] per seed; drawn are their mean and their range.

    `key` ties it to the legend. A y of None leaves a gap.
    """

    key: str
    label: str
    style: Style
    runs: Sequence[Sequence[tuple[float, float | None]]]

    def points(self) -> list[tuple[float, float, float, float]]:
        """(x, mean, lowest, highest) over seeds, thinned to what a screen can show."""
        by_x: dict[float, list[float]] = {}
        for run in self.runs:
            for x, y in run:
                if y is not None:
                    by_x.setdefault(x, []).append(y)
        rows = [(x, sum(ys) / len(ys), min(ys), max(ys)) for x, ys in sorted(by_x.items())]
        step = math.ceil(len(rows) / _MOST_POINTS) if rows else 1
        buckets = [rows[i : i + step] for i in range(0, len(rows), step)]
        return [
            (
                bucket[-1][0],
                sum(row[1] for row in bucket) / len(bucket),
                min(row[2] for row in bucket),
                max(row[3] for row in bucket),
            )
            for bucket in buckets
        ]


def moving_mean(points: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """The points with every value replaced by its mean over a twentieth of the line around it."""
    reach = len(points) // 40
    smooth = []
    for place, (x, *_) in enumerate(points):
        window = points[max(0, place - reach) : place + reach + 1]
        means = (sum(column) / len(window) for column in list(zip(*window))[1:])
        smooth.append((x, *means))
    return smooth


@dataclasses.dataclass(frozen=True)
class Trail:
    """One line through a plane in its own order, not that of x; each point is (x, y, name)."""

    key: str
    label: str
    style: Style
    points: Sequence[tuple[float, float, str]]


def line_chart(
    title: str, series: Sequence[Series], *, x_label: str = "step", smooth: bool = False
) -> Markup:
    """A line per series over its seeds' range; empty if no series has a point.

    `smooth` draws a moving mean, over the single steps in faint where there is one seed.
    """
    raw = [(one, points) for one in series if (points := one.points())]
    if not raw:
        return Markup("")
    drawn = [(one, moving_mean(points) if smooth else points) for one, points in raw]
    faint = [points if smooth and len(one.runs) == 1 else [] for one, points in raw]
    every = [point for points in (*faint, *(points for _, points in drawn)) for point in points]
    axes = Axes(
        [point[0] for point in every],
        [value for point in every for value in point[2:]],
    )
    parts = [axes.draw(x_label)]
    for (one, points), steps in zip(drawn, faint):
        marks = []
        if len(one.runs) > 1:
            upper = [(x, high) for x, _, _, high in points]
            lower = [(x, low) for x, _, low, _ in reversed(points)]
            marks.append(path("band", f"{axes.line(upper + lower)}Z"))
        if steps:
            marks.append(path("line raw", axes.line(steps)))
        x, end, *_ = points[-1]
        marks.append(path("line main", axes.line(points)))
        marks.append(one.style.mark(axes.x(x), axes.y(end), 3.6))
        marks.append(element("title", f"{one.label}: ends at {end:.4g}"))
        parts.append(
            element("g", *marks, css=one.style.css, data_series=one.key, data_label=one.label)
        )
    ends = "; ".join(f"{one.label} ends at {points[-1][1]:.4g}" for one, points in drawn)
    summary = f"{title} by {x_label}: {ends}"
    scale = {**axes.scale, "data_x_label": x_label}
    return figure(title, summary, parts, axes.width, axes.height, **scale)


def trail_chart(title: str, trails: Sequence[Trail], *, x_label: str, y_label: str) -> Markup:
    """Trails with a dot at every point, which tells its name; empty without points."""
    drawn = [trail for trail in trails if trail.points]
    if not drawn:
        return Markup("")
    axes = Axes(
        [x for trail in drawn for x, _, _ in trail.points],
        [y for trail in drawn for _, y, _ in trail.points],
        wide=True,
        x_margin=0.06,
    )

    def at(x: float, y: float) -> str:
        return f"{x_label} {x:.4g}, {y_label} {y:.4g}"

    def mark(trail: Trail, x: float, y: float, name: str) -> Markup:
        told = element("title", f"{trail.label}, {name}: {at(x, y)}")
        return element("g", trail.style.mark(axes.x(x), axes.y(y), 3.8), told)

    parts = [axes.draw(x_label, y_label)]
    for trail in drawn:
        marks = joined([mark(trail, *point) for point in trail.points])
        line = path("line", axes.line(trail.points))
        parts.append(element("g", line, marks, css=trail.style.css, data_series=trail.key))
    ends = "; ".join(
        f"{trail.label} from {at(*trail.points[0][:2])} to {at(*trail.points[-1][:2])}"
        for trail in drawn
    )
    return figure(title, f"{title}: {ends}", parts, axes.width, axes.height)


__all__ = ["Series", "Trail", "line_chart", "moving_mean", "trail_chart"]
