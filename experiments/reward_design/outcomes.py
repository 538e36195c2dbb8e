"""How curves are shown: as shares of a reward's scale, in cells, figures and tested claims."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.common.report.charts import Series, Style
from experiments.common.scores.claims import Verdict
from experiments.reward_design.learning import Curves
from experiments.reward_design.results import (
    Cell,
    Findings,
    LineFigure,
    Table,
    TrailFigure,
)
from experiments.reward_design.settings import Case, Study

# (estimator label, case label) -> curves whose leading axis is the seeds.
Outcomes = Mapping[tuple[str, str], Curves]
DIAGNOSTICS = {
    "zero_variance_fraction": "groups without any signal",
    "advantage/conflict_rate": "rewards in conflict",
    "advantage/cancellation_rate": "rewards cancelling out",
    "advantage/distinct_per_group": "different advantages in a group",
    "entropy": "entropy in nats",
}


def make_findings(
    study: Study,
    *,
    tables: Sequence[Table],
    figures: Sequence[LineFigure | TrailFigure],
    claims: Sequence[Verdict],
) -> Findings:
    return Findings(
        name=study.name,
        title=study.title,
        seeds=study.seeds,
        steps=study.training.steps,
        tables=tuple(tables),
        figures=tuple(figures),
        claims=tuple(claims),
    )


def estimators_of(outcomes: Outcomes) -> list[str]:
    return list(dict.fromkeys(label for label, _ in outcomes))


def style_of(outcomes: Outcomes, label: str, variant: int = 0) -> Style:
    return Style(estimators_of(outcomes).index(label), variant)


def share_of_scale(case: Case, curves: Curves, name: str) -> np.ndarray:
    """The expected reward as a share of its scale, `[S, T + 1]`."""
    k = case.task.names.index(name)
    return curves.rewards[:, :, k] / case.task.scales[k]


def final_cell(case: Case, curves: Curves, name: str) -> Cell:
    return cell(share_of_scale(case, curves, name)[:, -1])


def cell(values: np.ndarray) -> Cell:
    return Cell(tuple(float(value) for value in values))


def in_words(values: np.ndarray | None) -> str:
    return "not run" if values is None else str(cell(values))


def claim(text: str, test: Callable[[], bool], numbers: str, *needed: object) -> Verdict:
    """The claim, tested only if everything it needs was run."""
    if any(one is None for one in needed):
        return Verdict(text, None, "needs the estimators grpo and gdpo")
    return Verdict(text, bool(test()), numbers)


def _series(outcomes: Outcomes, label: str, values: np.ndarray) -> Series:
    runs = [[(float(x), float(y)) for x, y in enumerate(run)] for run in values]
    return Series(key=label, label=label, style=style_of(outcomes, label), runs=runs)


def reward_figure(case: Case, outcomes: Outcomes, name: str) -> LineFigure:
    series = [
        _series(outcomes, label, share_of_scale(case, outcomes[label, case.label], name))
        for label in estimators_of(outcomes)
    ]
    return LineFigure(f"{case.label}: {name}", tuple(series))


def diagnostic_figures(case: Case, outcomes: Outcomes) -> list[LineFigure]:
    return [
        LineFigure(
            f"{case.label}: {title}",
            tuple(
                _series(outcomes, label, outcomes[label, case.label].metrics[metric])
                for label in estimators_of(outcomes)
            ),
        )
        for metric, title in DIAGNOSTICS.items()
    ]


__all__ = [
    "DIAGNOSTICS",
    "Outcomes",
    "cell",
    "claim",
    "diagnostic_figures",
    "estimators_of",
    "final_cell",
    "in_words",
    "make_findings",
    "reward_figure",
    "share_of_scale",
    "style_of",
]
