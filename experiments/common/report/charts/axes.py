"""What all charts share: axes with round ticks, markers, and the figure around a picture."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 360, 220
WIDE, WIDE_HEIGHT = 620, 360
_LEFT, _RIGHT, _TOP = 46, 12, 14

# Outlines of radius one, a different one for each colour class.
_SHAPES = (
    "M-.8 -.8H.8V.8H-.8Z",
    "M0 -1.15L1 .75H-1Z",
    "M0 -1.2L1.05 0L0 1.2L-1.05 0Z",
    "M0 1.15L1 -.75H-1Z",
    "M-.38 -1.1H.38V-.38H1.1V.38H.38V1.1H-.38V.38H-1.1V-.38H-.38Z",
    "M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0Z",
)


class Axes:
    """Data coordinates to picture coordinates, with grid lines at round numbers."""

    def __init__(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        *,
        width: int = WIDTH,
        height: int = HEIGHT,
        x_room: float = 0.0,
        y_room: float = 0.06,
    ):
        self.width, self.height = width, height
        self.left, self.right = _LEFT, width - _RIGHT
        # Phones show a wide picture with larger letters, which need room of their own.
        wide = width > WIDTH
        self.top, self.bottom = _TOP + 6 * wide, height - (48 if wide else 32)
        self._tick_drop = 18 if wide else 14
        self.x_low, self.x_high = padded(xs, x_room)
        self.y_low, self.y_high = padded(ys, y_room)

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(self.left + share * (self.right - self.left), 2)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self.bottom - share * (self.bottom - self.top), 2)

    def draw(self, x_label: str, y_label: str = "") -> str:
        parts = []
        for tick in ticks(self.y_low, self.y_high):
            y = self.y(tick)
            parts.append(f'<path class="grid" d="M{self.left} {y}H{self.right}"/>')
            parts.append(f'<text x="{self.left - 6}" y="{y + 3.5}" class="end">{tick:g}</text>')
        for tick in ticks(self.x_low, self.x_high):
            x = self.x(tick)
            parts.append(
                f'<text x="{x}" y="{self.bottom + self._tick_drop}" class="mid">{tick:g}</text>'
            )
        parts.append(f'<path class="axis" d="M{self.left} {self.bottom}H{self.right}"/>')
        parts.append(
            f'<text x="{self.right}" y="{self.height - 3}" class="end">{escape(x_label)}</text>'
        )
        if y_label:
            parts.append(f'<text x="{self.left}" y="{self.top - 4}">{escape(y_label)}</text>')
        return "".join(parts)

    @property
    def scale(self) -> str:
        """Attributes by which the page turns picture coordinates back into data."""
        return (
            f'data-x="{self.x_low:.6g} {self.x_high:.6g} {self.left} {self.right}" '
            f'data-y="{self.y_low:.6g} {self.y_high:.6g} {self.bottom} {self.top}"'
        )


def marker(style: str, x: float, y: float, size: float, *, css: str = "dot") -> str:
    """The mark of a colour class ("s0", "s1", ...) at picture coordinates."""
    shape = _SHAPES[int(style[1:]) % len(_SHAPES)]
    return f'<path class="{css}" transform="translate({x} {y}) scale({size})" d="{shape}"/>'


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
        room = 0.5 * abs(high) or 0.5
        return low - room, high + room
    return low - share * (high - low), high + share * (high - low)


def figure(
    title: str,
    summary: str,
    body: str,
    width: int,
    height: int,
    *,
    wide: bool = False,
    scale: str = "",
) -> str:
    """A titled picture; `summary` is what a screen reader says of it."""
    return (
        f'<figure class="chart{" wide" if wide else ""}"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(summary)}" {scale}>'
        f"{body}</svg></figure>"
    )


__all__ = ["HEIGHT", "WIDE", "WIDE_HEIGHT", "WIDTH", "Axes", "figure", "marker", "padded", "ticks"]
