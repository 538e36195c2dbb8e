"""Charts of a report as SVG and HTML text, drawn by hand so that the page needs nothing else.

Colours come from the classes `s0`, `s1`, ... of the page, which suit light and dark, and every
class has a marker of its own, so that no chart speaks by colour alone. Every element of a series
carries `data-series`, by which the legend shows and hides it. All text is escaped.
"""

from experiments.common.report.charts.axes import marker, ticks
from experiments.common.report.charts.histograms import histogram
from experiments.common.report.charts.intervals import Estimate, interval_chart
from experiments.common.report.charts.legend import Entry, legend
from experiments.common.report.charts.lines import Series, Trail, line_chart, trail_chart
from experiments.common.report.charts.scatter import Dot, pareto_front, scatter_chart
from experiments.common.report.charts.tables import HeatCell, heat_map

__all__ = [
    "Dot",
    "Entry",
    "Estimate",
    "HeatCell",
    "Series",
    "Trail",
    "heat_map",
    "histogram",
    "interval_chart",
    "legend",
    "line_chart",
    "marker",
    "pareto_front",
    "scatter_chart",
    "ticks",
    "trail_chart",
]
