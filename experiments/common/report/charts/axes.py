"""What all charts share: axes with round ticks, and the figure around a picture."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from experiments.common.report.charts.svg import element, joined, path

WIDTH, HEIGHT = 360, 220
WIDE, WIDE_HEIGHT = 620, 360
_LEFT, _RIGHT, _TOP = 46, 12, 14


class Axes:
    """Data coordinates to picture coordinates, with grid lines at round numbers."""

    def __init__(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        *,
        wide: bool = False,
        x_margin: float = 0.0,
        y_margin: float = 0.06,
    ):
        self.width, self.height = (WIDE, WIDE_HEIGHT) if wide else (WIDTH, HEIGHT)
        self.left, self.right = _LEFT, self.width - _RIGHT
        # Phones show a wide picture with larger letters, which take more of it.
        self.top, self.bottom = _TOP + 6 * wide, self.height - (48 if wide else 32)
        self._tick_drop = 18 if wide else 14
        self.x_low, self.x_high = padded(xs, x_margin)
        self.y_low, self.y_high = padded(ys, y_margin)

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(self.left + share * (self.right - self.left), 2)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self.bottom - share * (self.bottom - self.top), 2)

    def line(self, points: Sequence[tuple[float, ...]]) -> str:
        """The path through the points (x, y, ...)."""
        return "M" + "L".join(f"{self.x(x)} {self.y(y)}" for x, y, *_ in points)

    def draw(self, x_label: str, y_label: str = "") -> Markup:
        parts = []
        for tick in ticks(self.y_low, self.y_high):
            y = self.y(tick)
            parts.append(path("grid", f"M{self.left} {y}H{self.right}"))
            parts.append(element("text", f"{tick:g}", css="end", x=self.left - 6, y=y + 3.5))
        for tick in ticks(self.x_low, self.x_high):
            y = self.bottom + self._tick_drop
            parts.append(element("text", f"{tick:g}", css="mid", x=self.x(tick), y=y))
        parts.append(path("axis", f"M{self.left} {self.bottom}H{self.right}"))
        parts.append(element("text", x_label, css="end", x=self.right, y=self.height - 3))
        if y_label:
            parts.append(element("text", y_label, x=self.left, y=self.top - 4))
        return joined(parts)

    @property
    def scale(self) -> dict[str, str]:
        """Attributes by which the page turns picture coordinates back into data."""
        return {
            "data_x": f"{self.x_low:.6g} {self.x_high:.6g} {self.left} {self.right}",
            "data_y": f"{self.y_low:.6g} {self.y_high:.6g} {self.bottom} {self.top}",
        }


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """About `count` round numbers in [low, high]."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def padded(values: Sequence[float], share: float) -> tuple[float, float]:
    """The range of the values, wider by a share of it on both sides and never empty."""
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(1.0, abs(high)):
        margin = 0.5 * abs(high) or 0.5
        return low - margin, high + margin
    return low - share * (high - low), high + share * (high - low)


def figure(
    title: str, summary: str, parts: Sequence[str], width: int, height: int, **scale: str
) -> Markup:
    """A titled picture; `summary` is what a screen reader says of it."""
    picture = element(
        "svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=summary, **scale
    )
    css = "chart wide" if width > WIDTH else "chart"
    return element("figure", element("figcaption", title), picture, css=css)


__all__ = ["HEIGHT", "WIDE", "WIDE_HEIGHT", "WIDTH", "Axes", "figure", "padded", "ticks"]
