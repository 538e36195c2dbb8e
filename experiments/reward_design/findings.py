"""What each study that trains shows: its tables, figures and claims, from the curves alone.

Rewards are shown as shares of their scale, 0 to 1, so that a loud and a quiet one compare.
"""

import numpy as np

from experiments.common.report.charts import Series
from experiments.common.scores.claims import Verdict
from experiments.reward_design.outcomes import (
    Outcomes,
    cell,
    claim,
    diagnostic_figures,
    estimators_of,
    final_cell,
    in_words,
    make_findings,
    reward_figure,
    share_of_scale,
    style_of,
)
from experiments.reward_design.results import Findings, LineFigure, Table
from experiments.reward_design.settings import Case, Study


def collapse(study: Study, outcomes: Outcomes) -> Findings:
    """A loud reward and a quiet one: who still hears the quiet one?"""
    rows, figures = [], []
    for case in study.cases:
        loud, quiet = case.task.names
        for label in estimators_of(outcomes):
            curves = outcomes[label, case.label]
            share = curves.metrics[f"advantage/share/{quiet}"][:, 0]
            rows.append(
                (
                    case.label,
                    label,
                    final_cell(case, curves, loud),
                    final_cell(case, curves, quiet),
                    cell(share),
                )
            )
        for name in (quiet, loud):
            figures.append(reward_figure(case, outcomes, name))
    first, last = study.cases[0], study.cases[-1]
    quiet = last.task.names[1]

    def at_end(label: str, case: Case) -> np.ndarray | None:
        curves = outcomes.get((label, case.label))
        return None if curves is None else share_of_scale(case, curves, quiet)[:, -1]

    grpo, gdpo, calm = at_end("grpo", last), at_end("gdpo", last), at_end("gdpo", first)
    return make_findings(
        study,
        tables=(
            Table(
                "expected rewards at the end, as shares of the scale; quiet reward's part of the "
                "first advantages",
                ("case", "estimator", "loud", "quiet", "quiet's part"),
                tuple(rows),
            ),
        ),
        figures=(*figures, *diagnostic_figures(last, outcomes)),
        claims=(
            claim(
                f"{last.label}: GDPO learns the quiet reward and GRPO does not",
                lambda: gdpo.min() > 0.8 and grpo.mean() < 0.5,
                f"GDPO {in_words(gdpo)}, GRPO {in_words(grpo)}",
                gdpo,
                grpo,
            ),
            claim(
                "GDPO learns the quiet reward alike at every scale of the loud one",
                lambda: np.abs(gdpo - calm).max() < 0.05,
                f"{first.label}: {in_words(calm)}; {last.label}: {in_words(gdpo)}",
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
        for label in estimators_of(outcomes):
            curves = outcomes[label, case.label]
            rows.append(
                (
                    case.label,
                    label,
                    cell(curves.moved),
                    final_cell(case, curves, name),
                    cell(curves.metrics["advantage/cancellation_rate"][:, 0]),
                )
            )
    equal, *ways_out = study.cases
    known = [label for label in ("grpo", "gdpo") if label in estimators_of(outcomes)]
    still = {label: outcomes[label, equal.label].moved.max() for label in known}
    learned = {
        f"{label}, {case.label}": share_of_scale(case, outcomes[label, case.label], name)[
            :, -1
        ].min()
        for label in known
        for case in ways_out
    }
    moved = ", ".join(f"{label} {size:g}" for label, size in still.items())
    least = ", ".join(f"{label} {size:.3f}" for label, size in learned.items())
    return make_findings(
        study,
        tables=(
            Table(
                f"largest change by an update; {name} at the end; share of samples that cancel",
                ("case", "estimator", "change", name, "cancelled"),
                tuple(rows),
            ),
        ),
        figures=(
            *(reward_figure(case, outcomes, name) for case in study.cases),
            *diagnostic_figures(equal, outcomes),
        ),
        claims=(
            claim(
                "equal weights: no parameter moves at all, under GDPO as under GRPO",
                lambda: max(still.values()) == 0,
                f"largest change {moved}",
                *([still] if known else [None]),
            ),
            claim(
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
        for label in estimators_of(outcomes):
            for case in study.cases:
                if (case.gate is not None) != gated:
                    continue
                curves = outcomes[label, case.label]
                numbers = [
                    cell(values)
                    for step in (early, study.training.steps)
                    for values in (
                        share_of_scale(case, curves, hard)[:, step],
                        1 - share_of_scale(case, curves, easy)[:, step],
                    )
                ]
                rows.append((f"{label}, {kind}", f"{case.weights[1]:g}", *numbers))

    def by_weight(label: str, gated: bool, step: int, *, exceed: bool = False) -> list[np.ndarray]:
        found = []
        for case in study.cases:
            if (case.gate is not None) == gated:
                curves = outcomes[label, case.label]
                share = share_of_scale(case, curves, easy if exceed else hard)[:, step]
                found.append(1 - share if exceed else share)
        return found

    weights = [case.weights[1] for case in plain]

    def figure(title: str, *, exceed: bool) -> LineFigure:
        series = [
            Series(
                key=f"{label}, {kind}",
                label=f"{label}, {kind}",
                style=style_of(outcomes, label, variant=int(gated)),
                runs=[
                    list(zip(weights, (float(values[seed]) for values in columns)))
                    for seed in range(study.seeds)
                ],
            )
            for label in estimators_of(outcomes)
            for kind, gated in kinds.items()
            for columns in [by_weight(label, gated, early, exceed=exceed)]
        ]
        return LineFigure(title, tuple(series), f"weight of {easy}")

    claims = []
    for label in ("grpo", "gdpo"):
        if label not in estimators_of(outcomes):
            continue
        loose, held = (np.stack(by_weight(label, gated, early)) for gated in (False, True))
        claims.append(
            Verdict(
                f"{label}, plain: the larger the weight of {easy}, the lower {hard}",
                bool((np.diff(loose.mean(axis=1)) < 0).all()),
                f"after {early} steps " + ", ".join(in_words(row) for row in loose),
            )
        )
        claims.append(
            Verdict(
                f"{label}, gated: {hard} is higher at every weight and hardly depends on it",
                bool((held > loose).all() and np.ptp(held.mean(axis=1)) < 0.05),
                f"after {early} steps " + ", ".join(in_words(row) for row in held),
            )
        )
    last = study.cases[-1]
    return make_findings(
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
            *(reward_figure(case, outcomes, hard) for case in (plain[-1], last)),
            *diagnostic_figures(last, outcomes),
        ),
        claims=tuple(claims),
    )


__all__ = ["cancel", "collapse", "conditioning"]
