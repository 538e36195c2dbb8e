"""What the page of CURaTe has besides the sections that all experiments share."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import differences, quiet, trade_off
from experiments.common.report.report import LAST
from experiments.common.report.runs import Run, Section, by_run
from experiments.common.report.tables import group_table
from experiments.curate.data.ablations import ABLATIONS
from experiments.curate.data.build_cases import CONTROL
from experiments.curate.page.browsing import dialogues
from experiments.curate.page.costs import costs
from experiments.curate.page.parts import parts_table

__all__ = ["SECTIONS", "ablations", "controls", "scenarios"]


def scenarios(runs: Sequence[Run]) -> Markup:
    """A section: pass and unclear rates by scenario and arm."""

    def kept(label: str) -> bool:
        return not _is_control(label) and label not in ABLATIONS

    shown = by_run(runs, lambda run: parts_table(run, "scenario", "pass", kept))
    note = quiet(
        "Share of passes among the answers that were judged a pass or a fail, with its interval "
        "and the number of those answers; beside it the share that the judge could not decide."
    )
    return shown and note + shown


def ablations(runs: Sequence[Run]) -> Markup:
    """A section: the same for the ablations of scenario 3."""
    shown = by_run(runs, lambda run: parts_table(run, "scenario", "pass", ABLATIONS.__contains__))
    note = quiet("Scenario 3 on rows of its own, each time with one thing changed.")
    return shown and note + shown


def controls(runs: Sequence[Run]) -> Markup:
    """A section: how often arms warn where there is no danger, and at what pass rate."""
    shown = joined(
        [
            trade_off("warns", "pass")(runs),
            by_run(runs, lambda run: parts_table(run, "scenario", "warns", _is_control)),
        ]
    )
    note = quiet(
        "Share of answers to controls that bring the constraint up although it does not matter for "
        "the question. Who always warns passes every dialogue, and warns at every control."
    )
    return shown and note + shown


def _is_control(label: str) -> bool:
    return label.endswith(CONTROL)


SECTIONS: Mapping[str, Section] = {
    "Scenarios": scenarios,
    "Ablations": ablations,
    "Controls": controls,
    "Differences": differences,
    "Categories": group_table("category", "pass", note="What is dangerous for the user."),
    "Costs": costs,
    **LAST,
    "Dialogues": dialogues,
}
