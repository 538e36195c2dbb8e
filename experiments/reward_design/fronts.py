"""What the sweep over weights shows: the compromises an estimator reaches, and the best ones."""

from collections.abc import Sequence

import numpy as np

from experiments.common.report.charts import Style, Trail
from experiments.reward_design.outcomes import (
    Outcomes,
    cell,
    claim,
    diagnostic_figures,
    estimators_of,
    final_cell,
    in_words,
    make_findings,
    style_of,
)
from experiments.reward_design.results import Findings, Table, TrailFigure
from experiments.reward_design.settings import Case, Study


def pareto(study: Study, outcomes: Outcomes) -> Findings:
    """A sweep of the weights: which compromises does an estimator reach?"""
    tasks = list(dict.fromkeys(case.task for case in study.cases))
    tables, figures, areas = [], [], {}
    for task in tasks:
        first, second = task.names
        loudness = f"{second} x{task.scales[1] / task.scales[0]:g}"
        cases = [case for case in study.cases if case.task == task]
        rows, trails, summary = [], [], []
        for label in estimators_of(outcomes):
            points = []
            for case in cases:
                curves = outcomes[label, case.label]
                cells = [final_cell(case, curves, name) for name in task.names]
                points.append(tuple(one.values for one in cells))
                rows.append((label, f"{case.weights[1]:g}", *cells))
            stacked = np.array(points)  # [weights, rewards, seeds]
            areas[label, loudness] = np.array(
                [dominated_area(one) for one in np.moveaxis(stacked, 2, 0)]
            )
            balanced = np.abs(stacked[:, 0] - stacked[:, 1]).mean(axis=1).argmin()
            summary.append((label, cell(areas[label, loudness]), f"{cases[balanced].weights[1]:g}"))
            trails.append(_trail(label, cases, stacked.mean(axis=2), style_of(outcomes, label)))
        limit = [_limit(case, outcomes) for case in cases]
        best = Style(len(trails), variant=1)
        trails.append(_trail("best for the weighted sum", cases, np.array(limit), best))
        tables += [
            Table(
                f"{loudness}: area under the front, and the weight of {second} that balances best",
                ("estimator", "area", "balanced at"),
                tuple(summary),
            ),
            Table(
                f"{loudness}: expected rewards at the end, as shares of the scale",
                ("estimator", f"weight of {second}", first, second),
                tuple(rows),
            ),
        ]
        figures.append(
            TrailFigure(
                f"{loudness}: weights from {cases[0].weights[1]:g} to {cases[-1].weights[1]:g}",
                tuple(trails),
                first,
                second,
            )
        )
        figures += diagnostic_figures(cases[len(cases) // 2], outcomes)
    loudest = loudness
    quietest = f"{tasks[0].names[1]} x{tasks[0].scales[1] / tasks[0].scales[0]:g}"
    gdpo, grpo = areas.get(("gdpo", loudest)), areas.get(("grpo", loudest))
    calm = areas.get(("gdpo", quietest))
    return make_findings(
        study,
        tables=tuple(tables),
        figures=tuple(figures),
        claims=(
            claim(
                f"{loudest}: GDPO's weights reach more of the front than GRPO's",
                lambda: (gdpo > grpo).all(),
                f"area: GDPO {in_words(gdpo)}, GRPO {in_words(grpo)}",
                gdpo,
                grpo,
            ),
            claim(
                "GDPO's front does not depend on the scale of a reward",
                lambda: np.abs(gdpo - calm).max() < 0.02,
                f"area: {quietest} {in_words(calm)}, {loudest} {in_words(gdpo)}",
                gdpo,
                calm,
            ),
        ),
    )


def _trail(label: str, cases: Sequence[Case], points: np.ndarray, style: Style) -> Trail:
    named = [
        (float(x), float(y), f"weight {case.weights[1]:g}")
        for case, (x, y) in zip(cases, points, strict=True)
    ]
    return Trail(label, label, style, named)


def _limit(case: Case, outcomes: Outcomes) -> np.ndarray:
    """What the exact optimum of the weighted sum earns: the same task under every estimator."""
    curves = outcomes[estimators_of(outcomes)[0], case.label]
    return curves.best.mean(axis=0) / case.task.scales


def dominated_area(points: np.ndarray) -> float:
    """The area that points `[n, 2]` in the unit square dominate, seen from (0, 0)."""
    area, reached = 0.0, 0.0
    for x, y in sorted(points.tolist(), reverse=True):
        area += max(0.0, y - reached) * x
        reached = max(reached, y)
    return area


__all__ = ["dominated_area", "pareto"]
