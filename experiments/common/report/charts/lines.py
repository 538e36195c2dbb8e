"""Lines: over an axis with the range of their seeds, or through a plane in their own order."""

import dataclasses
import math
from collections.abc import Sequence
from html import escape

from experiments.common.report.charts.axes import WIDE, WIDE_HEIGHT, Axes, figure, marker

_MOST_POINTS = 300


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: `runs` holds [(x, y), ...] per seed; drawn are their mean and their range.

    `key` ties it to the legend, `style` is its colour class. A y of None leaves a gap.
    """

    key: str
    label: str
    style: str
    runs: Sequence[Sequence[tuple[float, float | None]]]
    dashed: bool = False

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
    style: str
    points: Sequence[tuple[float, float, str]]
    dashed: bool = False


def line_chart(
    title: str, series: Sequence[Series], *, x_label: str = "step", smooth: bool = False
) -> str:
    """A line per series over its seeds' range; an empty string if no series has a point.

    `smooth` draws a moving mean, over the single steps in faint where there is one seed.
    """
    raw = [(one, points) for one in series if (points := one.points())]
    if not raw:
        return ""
    drawn = [(one, moving_mean(points) if smooth else points) for one, points in raw]
    faint = [points if smooth and len(one.runs) == 1 else [] for one, points in raw]
    every = [point for points in (*faint, *(points for _, points in drawn)) for point in points]
    axes = Axes(
        [point[0] for point in every],
        [value for point in every for value in point[2:]],
    )
    parts = [axes.draw(x_label)]
    for (one, points), steps in zip(drawn, faint):
        label = escape(one.label)
        parts.append(
            f'<g class="{one.style}" data-series="{escape(one.key)}" data-label="{label}">'
        )
        if len(one.runs) > 1:
            upper = [f"{axes.x(x)} {axes.y(high)}" for x, _, _, high in points]
            lower = [f"{axes.x(x)} {axes.y(low)}" for x, _, low, _ in reversed(points)]
            parts.append(f'<path class="band" d="M{"L".join(upper + lower)}Z"/>')
        if steps:
            parts.append(f'<path class="line raw" d="{_path(axes, steps)}"/>')
        dash = " dashed" if one.dashed else ""
        parts.append(f'<path class="line main{dash}" d="{_path(axes, points)}"/>')
        parts.append(marker(one.style, axes.x(points[-1][0]), axes.y(points[-1][1]), 3.6))
        parts.append(f"<title>{label}: ends at {points[-1][1]:.4g}</title></g>")
    summary = "; ".join(f"{one.label} ends at {points[-1][1]:.4g}" for one, points in drawn)
    return figure(
        title,
        f"{title} by {x_label}: {summary}",
        "".join(parts),
        axes.width,
        axes.height,
        scale=f'{axes.scale} data-x-label="{escape(x_label)}"',
    )


def _path(axes: Axes, points: Sequence[tuple[float, ...]]) -> str:
    return "M" + "L".join(f"{axes.x(x)} {axes.y(mean)}" for x, mean, *_ in points)


def trail_chart(title: str, trails: Sequence[Trail], *, x_label: str, y_label: str) -> str:
    """Trails with a dot at every point, which tells its name; an empty string without points."""
    drawn = [trail for trail in trails if trail.points]
    if not drawn:
        return ""
    axes = Axes(
        [x for trail in drawn for x, _, _ in trail.points],
        [y for trail in drawn for _, y, _ in trail.points],
        width=WIDE,
        height=WIDE_HEIGHT,
        x_room=0.06,
    )
    parts = [axes.draw(x_label, y_label)]
    for trail in drawn:
        line = "L".join(f"{axes.x(x)} {axes.y(y)}" for x, y, _ in trail.points)
        dash = " dashed" if trail.dashed else ""
        parts.append(f'<g class="{trail.style}" data-series="{escape(trail.key)}">')
        parts.append(f'<path class="line{dash}" d="M{line}"/>')
        for x, y, name in trail.points:
            about = f"{trail.label}, {name}: {x_label} {x:.4g}, {y_label} {y:.4g}"
            mark = marker(trail.style, axes.x(x), axes.y(y), 3.8)
            parts.append(f"<g>{mark}<title>{escape(about)}</title></g>")
        parts.append("</g>")
    ends = "; ".join(
        f"{trail.label} from {x_label} {trail.points[0][0]:.4g}, {y_label} {trail.points[0][1]:.4g}"
        f" to {x_label} {trail.points[-1][0]:.4g}, {y_label} {trail.points[-1][1]:.4g}"
        for trail in drawn
    )
    return figure(title, f"{title}: {ends}", "".join(parts), WIDE, WIDE_HEIGHT, wide=True)


__all__ = ["Series", "Trail", "line_chart", "moving_mean", "trail_chart"]
