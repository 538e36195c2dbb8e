"""How series are told apart: ten styles of colour, dash and marker, and a variant of each."""

import dataclasses

from markupsafe import Markup

from experiments.common.report.charts.svg import path

COLOURS = 6  # the classes s0 to s5 of the page, which suit light and dark
DASHES = 4  # the classes d0 to d3 of the page
# Outlines of radius one.
MARKERS = (
    "M-.8 -.8H.8V.8H-.8Z",
    "M0 -1.15L1 .75H-1Z",
    "M0 -1.2L1.05 0L0 1.2L-1.05 0Z",
    "M0 1.15L1 -.75H-1Z",
    "M-.38 -1.1H.38V-.38H1.1V.38H.38V1.1H-.38V.38H-1.1V-.38H-.38Z",
    "M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0Z",
    "M0 -1.2L.3 -.38L1.15 -.37L.48 .15L.71 .97L0 .48L-.71 .97L-.48 .15L-1.15 -.37L-.3 -.38Z",
    "M-1.15 0L-.57 -1H.57L1.15 0L.57 1H-.57Z",
    "M-1 -1L0 -.45L1 -1L.45 0L1 1L0 .45L-1 1L-.45 0Z",
    "M-1.1 -.4H1.1V.4H-1.1Z",
)


@dataclasses.dataclass(frozen=True)
class Style:
    """The style of the series at `place`, from 0 on.

    The first ten differ in colour or dash and all in their marker; the eleventh has the marker of
    the first in another colour and dash. A `variant` (of a second run) is the same colour and
    marker with another dash and hollow.
    """

    place: int
    variant: int = 0

    @property
    def css(self) -> str:
        """The classes of colour and dash."""
        dash = (self.place // COLOURS + 2 * self.variant) % DASHES
        return f"s{self.place % COLOURS} d{dash}"

    @property
    def hollow(self) -> bool:
        """Are marks outlines?"""
        return self.variant % 2 == 1

    def mark(self, x: float, y: float, size: float, css: str = "") -> Markup:
        """The marker at picture coordinates; `css` in place of what the style has."""
        return path(
            css or ("dot hollow" if self.hollow else "dot"),
            MARKERS[self.place % len(MARKERS)],
            transform=f"translate({x} {y}) scale({size})",
        )


__all__ = ["COLOURS", "DASHES", "MARKERS", "Style"]
