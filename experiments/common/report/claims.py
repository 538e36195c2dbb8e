"""Claims of an experiment, whichever way they went."""

from collections.abc import Sequence

from markupsafe import Markup

from experiments.common.report.rendering import render
from experiments.common.report.runs import Run, by_run
from experiments.common.scores.claims import Verdict


def verdict_list(verdicts: Sequence[Verdict]) -> Markup:
    """A numbered list of verdicts; empty without any."""
    return render("claims.html", verdicts=verdicts) if verdicts else Markup("")


def claims(runs: Sequence[Run]) -> Markup:
    """A section: the verdicts of every run."""
    return by_run(runs, lambda run: verdict_list(run.verdicts))


__all__ = ["claims", "verdict_list"]
