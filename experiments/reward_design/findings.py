"""What each study that trains shows: its tables, figures and claims, from the curves alone.

Rewards are shown as shares of their scale, 0 to 1, so that a loud and a quiet one compare.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.charts import Series, Trail
from experiments.reward_design.learning import Curves
from experiments.reward_design.results import (
    Cell,
    Claim,
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


def collapse(study: Study, outcomes: Outcomes) -> Findings:
    """A loud reward and a quiet one: who still hears the quiet one?"""
    rows, figures = [], []
    for case in study.cases:
        loud, quiet = case.task.names
        for label in _labels(outcomes):
            curves = outcomes[label, case.label]
            share = curves.metrics[f"advantage/share/{quiet}"][:, 0]
            rows.append(
                (
                    case.label,
                    label,
                    _final(case, curves, loud),
                    _final(case, curves, quiet),
                    _cell(share),
                )
            )
        for name in (quiet, loud):
            figures.append(_reward_figure(case, outcomes, name))
    first, last = study.cases[0], study.cases[-1]
    quiet = last.task.names[1]

    def at_end(label: str, case: Case) -> np.ndarray | None:
        curves = outcomes.get((label, case.label))
        return None if curves is None else _share(case, curves, quiet)[:, -1]

    grpo, gdpo, calm = at_end("grpo", last), at_end("gdpo", last), at_end("gdpo", first)
    return _findings(
        study,
        tables=(
            Table(
                "expected rewards at the end, as shares of the scale; quiet reward's part of the "
                "first advantages",
                ("case", "estimator", "loud", "quiet", "quiet's part"),
                tuple(rows),
            ),
        ),
        figures=(*figures, *_diagnostics(last, outcomes)),
        claims=(
            _claim(
                f"{last.label}: GDPO learns the quiet reward and GRPO does not",
                lambda: gdpo.min() > 0.8 and grpo.mean() < 0.5,
                f"GDPO {_text(gdpo)}, GRPO {_text(grpo)}",
                gdpo,
                grpo,
            ),
            _claim(
                "GDPO learns the quiet reward alike at every scale of the loud one",
                lambda: np.abs(gdpo - calm).max() < 0.05,
                f"{first.label}: {_text(calm)}; {last.label}: {_text(gdpo)}",
                gdpo,
                calm,
            ),
        ),
    )


def cancel(study: Study, outcomes: Outcomes) -> Findings:
    """Two rewards of constant sum: nothing to learn for equal weights, whatever the estimator."""
    name = study.cases[0].task.names[0]
    rows = []
    for case in study.cases:
        for label in _labels(outcomes):
            curves = outcomes[label, case.label]
            rows.append(
                (
                    case.label,
                    label,
                    _cell(curves.moved),
                    _final(case, curves, name),
                    _cell(curves.metrics["advantage/cancellation_rate"][:, 0]),
                )
            )
    equal, *ways_out = study.cases
    known = [label for label in ("grpo", "gdpo") if label in _labels(outcomes)]
    still = {label: outcomes[label, equal.label].moved.max() for label in known}
    learned = {
        f"{label}, {case.label}": _share(case, outcomes[label, case.label], name)[:, -1].min()
        for label in known
        for case in ways_out
    }
    moved = ", ".join(f"{label} {size:g}" for label, size in still.items())
    least = ", ".join(f"{label} {size:.3f}" for label, size in learned.items())
    return _findings(
        study,
        tables=(
            Table(
                f"largest change by an update; {name} at the end; share of samples that cancel",
                ("case", "estimator", "change", name, "cancelled"),
                tuple(rows),
            ),
        ),
        figures=(
            *(_reward_figure(case, outcomes, name) for case in study.cases),
            *_diagnostics(equal, outcomes),
        ),
        claims=(
            _claim(
                "equal weights: no parameter moves at all, under GDPO as under GRPO",
                lambda: max(still.values()) == 0,
                f"largest change {moved}",
                *([still] if known else [None]),
            ),
            _claim(
                "unequal weights and a condition are ways out",
                lambda: min(learned.values()) > 0.9,
                f"lowest {name} of a seed: {least}",
                *([learned] if known else [None]),
            ),
        ),
    )


def conditioning(study: Study, outcomes: Outcomes) -> Findings:
    """An easy reward against a hard one: what its weight does, and what a condition does."""
    hard, easy = study.cases[0].task.names
    early = study.training.steps // 3
    kinds = {"plain": False, "gated": True}
    plain = [case for case in study.cases if case.gate is None]
    rows = []
    for kind, gated in kinds.items():
        for label in _labels(outcomes):
            for case in study.cases:
                if (case.gate is not None) != gated:
                    continue
                curves = outcomes[label, case.label]
                numbers = [
                    _cell(values)
                    for step in (early, study.training.steps)
                    for values in (
                        _share(case, curves, hard)[:, step],
                        1 - _share(case, curves, easy)[:, step],
                    )
                ]
                rows.append((f"{label}, {kind}", f"{case.weights[1]:g}", *numbers))

    def by_weight(label: str, gated: bool, step: int, *, exceed: bool = False) -> list[np.ndarray]:
        found = []
        for case in study.cases:
            if (case.gate is not None) == gated:
                curves = outcomes[label, case.label]
                share = _share(case, curves, easy if exceed else hard)[:, step]
                found.append(1 - share if exceed else share)
        return found

    weights = [case.weights[1] for case in plain]

    def figure(title: str, *, exceed: bool) -> LineFigure:
        series = [
            Series(
                key=f"{label}, {kind}",
                label=f"{label}, {kind}",
                style=_style(outcomes, label),
                runs=[
                    list(zip(weights, (float(values[seed]) for values in columns)))
                    for seed in range(study.seeds)
                ],
                dashed=gated,
            )
            for label in _labels(outcomes)
            for kind, gated in kinds.items()
            for columns in [by_weight(label, gated, early, exceed=exceed)]
        ]
        return LineFigure(title, tuple(series), f"weight of {easy}")

    claims = []
    for label in ("grpo", "gdpo"):
        if label not in _labels(outcomes):
            continue
        loose, held = (np.stack(by_weight(label, gated, early)) for gated in (False, True))
        claims.append(
            Claim(
                f"{label}, plain: the larger the weight of {easy}, the lower {hard}",
                bool((np.diff(loose.mean(axis=1)) < 0).all()),
                f"after {early} steps " + ", ".join(_text(row) for row in loose),
            )
        )
        claims.append(
            Claim(
                f"{label}, gated: {hard} is higher at every weight and hardly depends on it",
                bool((held > loose).all() and np.ptp(held.mean(axis=1)) < 0.05),
                f"after {early} steps " + ", ".join(_text(row) for row in held),
            )
        )
    last = study.cases[-1]
    return _findings(
        study,
        tables=(
            Table(
                f"{hard} and exceed (the share that is not {easy}) at steps {early} and "
                f"{study.training.steps}",
                (
                    "estimator",
                    f"weight of {easy}",
                    f"{hard} @{early}",
                    f"exceed @{early}",
                    f"{hard} @{study.training.steps}",
                    f"exceed @{study.training.steps}",
                ),
                tuple(rows),
            ),
        ),
        figures=(
            figure(f"{hard} after {early} steps", exceed=False),
            figure(f"exceed after {early} steps", exceed=True),
            *(_reward_figure(case, outcomes, hard) for case in (plain[-1], last)),
            *_diagnostics(last, outcomes),
        ),
        claims=tuple(claims),
    )


def pareto(study: Study, outcomes: Outcomes) -> Findings:
    """A sweep of the weights: which compromises does an estimator reach?"""
    tasks = list(dict.fromkeys(case.task for case in study.cases))
    tables, figures, areas = [], [], {}
    for task in tasks:
        first, second = task.names
        loudness = f"{second} x{task.scales[1] / task.scales[0]:g}"
        cases = [case for case in study.cases if case.task == task]
        rows, trails, summary = [], [], []
        for label in _labels(outcomes):
            points = []
            for case in cases:
                curves = outcomes[label, case.label]
                cells = [_final(case, curves, name) for name in task.names]
                points.append(tuple(cell.values for cell in cells))
                rows.append((label, f"{case.weights[1]:g}", *cells))
            stacked = np.array(points)  # [weights, rewards, seeds]
            areas[label, loudness] = np.array([_area(one) for one in np.moveaxis(stacked, 2, 0)])
            balanced = np.abs(stacked[:, 0] - stacked[:, 1]).mean(axis=1).argmin()
            summary.append(
                (label, _cell(areas[label, loudness]), f"{cases[balanced].weights[1]:g}")
            )
            trails.append(_trail(label, cases, stacked.mean(axis=2), _style(outcomes, label)))
        limit = [_limit(case, outcomes) for case in cases]
        trails.append(_trail("best for the weighted sum", cases, np.array(limit), "s5", True))
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
        figures += _diagnostics(cases[len(cases) // 2], outcomes)
    loudest = loudness
    quietest = f"{tasks[0].names[1]} x{tasks[0].scales[1] / tasks[0].scales[0]:g}"
    gdpo, grpo = areas.get(("gdpo", loudest)), areas.get(("grpo", loudest))
    calm = areas.get(("gdpo", quietest))
    return _findings(
        study,
        tables=tuple(tables),
        figures=tuple(figures),
        claims=(
            _claim(
                f"{loudest}: GDPO's weights reach more of the front than GRPO's",
                lambda: (gdpo > grpo).all(),
                f"area: GDPO {_text(gdpo)}, GRPO {_text(grpo)}",
                gdpo,
                grpo,
            ),
            _claim(
                "GDPO's front does not depend on the scale of a reward",
                lambda: np.abs(gdpo - calm).max() < 0.02,
                f"area: {quietest} {_text(calm)}, {loudest} {_text(gdpo)}",
                gdpo,
                calm,
            ),
        ),
    )


def _findings(
    study: Study,
    *,
    tables: Sequence[Table],
    figures: Sequence[LineFigure | TrailFigure],
    claims: Sequence[Claim],
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


def _labels(outcomes: Outcomes) -> list[str]:
    return list(dict.fromkeys(label for label, _ in outcomes))


def _style(outcomes: Outcomes, label: str) -> str:
    return f"s{_labels(outcomes).index(label) % 6}"


def _share(case: Case, curves: Curves, name: str) -> np.ndarray:
    """The expected reward as a share of its scale, `[S, T + 1]`."""
    k = case.task.names.index(name)
    return curves.rewards[:, :, k] / case.task.scales[k]


def _final(case: Case, curves: Curves, name: str) -> Cell:
    return _cell(_share(case, curves, name)[:, -1])


def _cell(values: np.ndarray) -> Cell:
    return Cell(tuple(float(value) for value in values))


def _text(values: np.ndarray | None) -> str:
    return "not run" if values is None else str(_cell(values))


def _claim(text: str, test: Callable[[], bool], numbers: str, *needed: object) -> Claim:
    """The claim, tested only if everything it needs was run."""
    if any(one is None for one in needed):
        return Claim(text, None, "needs the estimators grpo and gdpo")
    return Claim(text, bool(test()), numbers)


def _series(outcomes: Outcomes, label: str, values: np.ndarray) -> Series:
    runs = [[(float(x), float(y)) for x, y in enumerate(run)] for run in values]
    return Series(key=label, label=label, style=_style(outcomes, label), runs=runs)


def _reward_figure(case: Case, outcomes: Outcomes, name: str) -> LineFigure:
    series = [
        _series(outcomes, label, _share(case, outcomes[label, case.label], name))
        for label in _labels(outcomes)
    ]
    return LineFigure(f"{case.label}: {name}", tuple(series))


def _diagnostics(case: Case, outcomes: Outcomes) -> list[LineFigure]:
    return [
        LineFigure(
            f"{case.label}: {title}",
            tuple(
                _series(outcomes, label, outcomes[label, case.label].metrics[metric])
                for label in _labels(outcomes)
            ),
        )
        for metric, title in DIAGNOSTICS.items()
    ]


def _trail(
    label: str, cases: Sequence[Case], points: np.ndarray, style: str, dashed: bool = False
) -> Trail:
    named = [
        (float(x), float(y), f"weight {case.weights[1]:g}")
        for case, (x, y) in zip(cases, points, strict=True)
    ]
    return Trail(label, label, style, named, dashed)


def _limit(case: Case, outcomes: Outcomes) -> np.ndarray:
    """What the exact optimum of the weighted sum earns: the same task under every estimator."""
    curves = outcomes[_labels(outcomes)[0], case.label]
    return curves.best.mean(axis=0) / case.task.scales


def _area(points: np.ndarray) -> float:
    """The area that points `[n, 2]` in the unit square dominate, seen from (0, 0)."""
    area, reached = 0.0, 0.0
    for x, y in sorted(points.tolist(), reverse=True):
        area += max(0.0, y - reached) * x
        reached = max(reached, y)
    return area


__all__ = ["DIAGNOSTICS", "Outcomes", "cancel", "collapse", "conditioning", "pareto"]
