"""The report of an experiment: the sections that all experiments share, and its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.common.report.charts.svg import element, joined
from experiments.common.report.claims import claims
from experiments.common.report.comparisons import differences
from experiments.common.report.curves import diagnostics, distributions, learning_curves
from experiments.common.report.page import write_page
from experiments.common.report.runs import Run, Section, folder_name
from experiments.common.report.tables import results_tables

FIRST: Mapping[str, Section] = {
    "Claims": claims,
    "Results": results_tables,
    "Differences": differences,
}
LAST: Mapping[str, Section] = {
    "Learning curves": learning_curves,
    "Distributions": distributions,
    "Diagnostics": diagnostics,
}


def report(title: str, runs: Sequence[Run], sections: Mapping[str, Section], out: Path) -> Path:
    """Writes the page about the runs to `out` and returns `out`.

    The experiment's own sections stand between the shared ones of `FIRST` and `LAST`; one that has
    the name of a shared one stands in its place.
    """
    chosen = {
        **{name: section for name, section in FIRST.items() if name not in sections},
        **sections,
        **{name: section for name, section in LAST.items() if name not in sections},
    }
    about = ", ".join(run.label or folder_name(run.path) for run in runs)
    return write_page(
        f"{title}: {about}",
        {name: section(runs) for name, section in chosen.items()},
        out,
        intro=joined([element("p", _facts(run), css="lead") for run in runs]),
    )


def _facts(run: Run) -> str:
    arms, seeds = len(run.results.arms), len(run.results.seeds)
    facts = (
        f"{arms} arm{'s' if arms > 1 else ''}",
        f"{seeds} seeds" if seeds > 1 else "one seed",
        f"{run.results.items} test items",
    )
    return run.name(", ".join(facts))


__all__ = ["FIRST", "LAST", "report"]
