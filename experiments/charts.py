"""Charts of a report as SVG and HTML text, drawn by hand so that the page needs nothing else.

Colours come from the classes `s0`, `s1`, ... of the page, which suit light and dark. Every element
of a series carries `data-series`, by which the legend shows and hides it. All text is escaped.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 30
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


@dataclasses.dataclass(frozen=True)
class Dot:
    """One arm in the scatter plot: its mean, and the single seeds around it."""

    key: str
    label: str
    style: str
    x: float
    y: float
    seeds: Sequence[tuple[float, float]] = ()


@dataclasses.dataclass(frozen=True)
class Trail:
    """One line through a plane in its own order, not that of x; each point is (x, y, name)."""

    key: str
    label: str
    style: str
    points: Sequence[tuple[float, float, str]]
    dashed: bool = False


class _Axes:
    """Data coordinates to picture coordinates, with grid lines at round numbers."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], *, width: int, height: int):
        self._width, self._height = width, height
        self.x_low, self.x_high = _padded(xs, 0.0)
        self.y_low, self.y_high = _padded(ys, 0.06)

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(_LEFT + share * (self._width - _LEFT - _RIGHT), 2)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self._height - _BOTTOM - share * (self._height - _TOP - _BOTTOM), 2)

    def draw(self, x_label: str, y_label: str = "") -> str:
        right, bottom = self._width - _RIGHT, self._height - _BOTTOM
        parts = []
        for tick in ticks(self.y_low, self.y_high):
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text x="{_LEFT - 5}" y="{y + 3.5}" text-anchor="end">{tick:g}</text>')
        for tick in ticks(self.x_low, self.x_high):
            x = self.x(tick)
            parts.append(f'<text x="{x}" y="{bottom + 13}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
        parts.append(
            f'<text x="{right}" y="{self._height - 4}" text-anchor="end">{escape(x_label)}</text>'
        )
        if y_label:
            parts.append(f'<text x="{_LEFT + 5}" y="{_TOP + 9}">{escape(y_label)}</text>')
        return "".join(parts)


def line_chart(title: str, series: Sequence[Series], *, x_label: str = "step") -> str:
    """A line per series over its seeds' range; an empty string if no series has a point."""
    drawn = [(one, points) for one in series if (points := one.points())]
    if not drawn:
        return ""
    every = [point for _, points in drawn for point in points]
    axes = _Axes(
        [point[0] for point in every],
        [value for point in every for value in point[2:]],
        width=WIDTH,
        height=HEIGHT,
    )
    parts = [axes.draw(x_label)]
    for one, points in drawn:
        parts.append(f'<g class="{one.style}" data-series="{escape(one.key)}">')
        if len(one.runs) > 1:
            upper = [f"{axes.x(x)} {axes.y(high)}" for x, _, _, high in points]
            lower = [f"{axes.x(x)} {axes.y(low)}" for x, _, low, _ in reversed(points)]
            parts.append(f'<path class="band" d="M{"L".join(upper + lower)}Z"/>')
        line = "L".join(f"{axes.x(x)} {axes.y(mean)}" for x, mean, _, _ in points)
        dash = " dashed" if one.dashed else ""
        parts.append(f'<path class="line{dash}" d="M{line}"/>')
        parts.append(f"<title>{escape(one.label)}: ends at {points[-1][1]:.4g}</title></g>")
    summary = "; ".join(f"{one.label} ends at {points[-1][1]:.4g}" for one, points in drawn)
    return _figure(title, f"{title} by {x_label}: {summary}", "".join(parts), WIDTH, HEIGHT)


def scatter_chart(title: str, dots: Sequence[Dot], *, x_label: str, y_label: str) -> str:
    """Arms as dots, more y and less x being better; a line joins those that no other one beats."""
    if not dots:
        return ""
    width, height = 2 * WIDTH, 330
    xs = [x for dot in dots for x, _ in [(dot.x, dot.y), *dot.seeds]]
    ys = [y for dot in dots for _, y in [(dot.x, dot.y), *dot.seeds]]
    room = 0.12 * ((max(xs) - min(xs)) or 1.0)
    axes = _Axes([*xs, min(xs) - room, max(xs) + room], ys, width=width, height=height)
    front = pareto_front([(dot.x, dot.y) for dot in dots])
    path = "L".join(f"{axes.x(dots[i].x)} {axes.y(dots[i].y)}" for i in front)
    parts = [axes.draw(x_label, y_label), f'<path class="front" d="M{path}"/>']
    for dot in dots:
        x, y = axes.x(dot.x), axes.y(dot.y)
        parts.append(f'<g class="{dot.style}" data-series="{escape(dot.key)}">')
        parts += [
            f'<circle class="seed" cx="{axes.x(a)}" cy="{axes.y(b)}" r="2.5"/>'
            for a, b in dot.seeds
        ]
        parts.append(f'<circle class="dot" cx="{x}" cy="{y}" r="6"/>')
        anchor, shift = ("end", -10) if x > width * 0.7 else ("start", 10)
        parts.append(
            f'<text class="name" x="{x + shift}" y="{y + 4}" text-anchor="{anchor}">'
            f"{escape(dot.label)}</text>"
        )
        parts.append(
            f"<title>{escape(dot.label)}: {escape(x_label)} {dot.x:.4f}, "
            f"{escape(y_label)} {dot.y:.4f}</title></g>"
        )
    summary = "; ".join(
        f"{dot.label}: {x_label} {dot.x:.4f}, {y_label} {dot.y:.4f}" for dot in dots
    )
    return _figure(title, f"{title}: {summary}", "".join(parts), width, height, wide=True)


def trail_chart(title: str, trails: Sequence[Trail], *, x_label: str, y_label: str) -> str:
    """Trails with a dot at every point, which tells its name; an empty string without points."""
    drawn = [trail for trail in trails if trail.points]
    if not drawn:
        return ""
    width, height = 2 * WIDTH, 330
    xs = [x for trail in drawn for x, _, _ in trail.points]
    ys = [y for trail in drawn for _, y, _ in trail.points]
    room = 0.06 * ((max(xs) - min(xs)) or 1.0)
    axes = _Axes([min(xs) - room, max(xs) + room], ys, width=width, height=height)
    parts = [axes.draw(x_label, y_label)]
    for trail in drawn:
        line = "L".join(f"{axes.x(x)} {axes.y(y)}" for x, y, _ in trail.points)
        dash = " dashed" if trail.dashed else ""
        parts.append(f'<g class="{trail.style}" data-series="{escape(trail.key)}">')
        parts.append(f'<path class="line{dash}" d="M{line}"/>')
        for x, y, name in trail.points:
            about = f"{trail.label}, {name}: {x_label} {x:.4g}, {y_label} {y:.4g}"
            parts.append(
                f'<circle class="dot" cx="{axes.x(x)}" cy="{axes.y(y)}" r="3.5">'
                f"<title>{escape(about)}</title></circle>"
            )
        parts.append("</g>")
    ends = "; ".join(
        f"{trail.label} from {x_label} {trail.points[0][0]:.4g}, {y_label} {trail.points[0][1]:.4g}"
        f" to {x_label} {trail.points[-1][0]:.4g}, {y_label} {trail.points[-1][1]:.4g}"
        for trail in drawn
    )
    return _figure(title, f"{title}: {ends}", "".join(parts), width, height, wide=True)


def heat_map(rows: Mapping[str, Sequence[float | None]], columns: Sequence[str]) -> str:
    """A table whose cells are shaded by their share of the largest value."""
    top = max((v for cells in rows.values() for v in cells if v is not None), default=0.0) or 1.0
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = []
    for name, cells in rows.items():
        shaded = "".join(
            "<td>-</td>"
            if value is None
            else f'<td class="heat" style="--heat:{value / top:.3f}">{value:.3f}</td>'
            for value in cells
        )
        body.append(f'<tr><th scope="row">{escape(name)}</th>{shaded}</tr>')
    return (
        '<div class="scroll" tabindex="0"><table class="numbers"><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def histogram(title: str, values: Mapping[str, Sequence[float]], styles: Mapping[str, str]) -> str:
    """The share of values in each of 24 bins as steps, one outline per key (a series' label)."""
    present = {name: data for name, data in values.items() if data}
    if not present:
        return ""
    low, high = _padded([v for data in present.values() for v in data], 0.0)
    bins = 24
    outlines: dict[str, list[float]] = {}
    for name, data in present.items():
        counts = [0] * bins
        for value in data:
            counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
        outlines[name] = [count / len(data) for count in counts]
    peak = max(share for shares in outlines.values() for share in shares)
    axes = _Axes([low, high], [0.0, peak], width=WIDTH, height=HEIGHT)
    edges = [axes.x(low + (high - low) * i / bins) for i in range(bins + 1)]
    parts = [axes.draw("value")]
    for name, shares in outlines.items():
        steps = "".join(f"V{axes.y(share)}H{edges[i + 1]}" for i, share in enumerate(shares))
        floor = axes.y(0.0)
        parts.append(
            f'<g class="{styles[name]}"><path class="line" d="M{edges[0]} {floor}{steps}V{floor}"/>'
            f"<title>{escape(name)}: {len(present[name])} values</title></g>"
        )
    summary = ", ".join(f"{name} {len(data)} values" for name, data in present.items())
    return _figure(title, f"Histogram of {title}: {summary}", "".join(parts), WIDTH, HEIGHT)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the points that no other has less x and more y than, in order of x."""
    front: list[int] = []
    best = -math.inf
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            front.append(i)
            best = points[i][1]
    return front


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """About `count` round numbers in [low, high]."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(1.0, abs(high)):
        room = 0.5 * abs(high) or 0.5
        return low - room, high + room
    return low - share * (high - low), high + share * (high - low)


def _figure(
    title: str, summary: str, body: str, width: int, height: int, *, wide: bool = False
) -> str:
    return (
        f'<figure class="chart{" wide" if wide else ""}"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(summary)}">'
        f"{body}</svg></figure>"
    )


__all__ = [
    "Dot",
    "Series",
    "Trail",
    "heat_map",
    "histogram",
    "line_chart",
    "pareto_front",
    "scatter_chart",
    "ticks",
    "trail_chart",
]
