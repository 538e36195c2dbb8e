"""What the pages of DCR have besides the sections that all experiments share."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import differences, quiet, trade_off
from experiments.common.report.report import LAST
from experiments.common.report.runs import Run, Section
from experiments.common.report.tables import group_table
from experiments.dcr.page.answers import answers
from experiments.dcr.page.diagnostics import kernels, separations
from experiments.dcr.page.strength import strength

__all__ = ["EVALUATION_SECTIONS", "SECTIONS"]

_METRICS = ("complies", "plain", "refuses")


def both(runs: Sequence[Run]) -> Markup:
    """A section: compliance with what only looks toxic over refusal of what is."""
    shown = trade_off("refuses", "complies")(runs)
    note = quiet(
        "Who refuses everything is at the lower right, who answers everything at the upper left."
    )
    return shown and note + shown


def _by(group: str) -> Section:
    """A section: the main metrics by the labels of a group."""
    tables = [group_table(group, metric) for metric in _METRICS]
    return lambda runs: joined([section(runs) for section in tables])


SECTIONS: Mapping[str, Section] = {
    "Compliance and refusal": both,
    "Over strength": strength,
    "Families": _by("family"),
    "Differences": differences,
    "Separation": separations,
    "Learning kernel": kernels,
    **LAST,
    "Answers": answers,
}
EVALUATION_SECTIONS: Mapping[str, Section] = {
    "Compliance and refusal": both,
    "Sets": _by("set"),
    "Types": _by("type"),
    "Differences": differences,
    "Answers": answers,
}
