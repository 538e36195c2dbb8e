"""Charts of a report as SVG, drawn here so that the page needs nothing else.

A series has a `Style` of colour, dash and marker, so that no chart speaks by colour alone. Every
element of a series carries `data-series`, by which the legend shows and hides it.
"""

from experiments.common.report.charts.axes import ticks
from experiments.common.report.charts.histograms import Values, histogram
from experiments.common.report.charts.intervals import Estimate, interval_chart
from experiments.common.report.charts.legend import Entry, legend
from experiments.common.report.charts.lines import Series, Trail, line_chart, trail_chart
from experiments.common.report.charts.scatter import Dot, pareto_front, scatter_chart
from experiments.common.report.charts.styles import Style

__all__ = [
    "Dot",
    "Entry",
    "Estimate",
    "Series",
    "Style",
    "Trail",
    "Values",
    "histogram",
    "interval_chart",
    "legend",
    "line_chart",
    "pareto_front",
    "scatter_chart",
    "ticks",
    "trail_chart",
]
