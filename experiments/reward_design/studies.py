"""From a study to its findings: train every estimator in every case, then say what came out."""

from collections.abc import Sequence

import jax
import numpy as np

from experiments.reward_design import findings, fronts
from experiments.reward_design.counting import count_groups
from experiments.reward_design.estimators import Estimator, estimators_named
from experiments.reward_design.learning import Curves, MakeEstimator, train_many
from experiments.reward_design.outcomes import Outcomes
from experiments.reward_design.results import Findings
from experiments.reward_design.settings import Case, CountingStudy, Gate, Study
from gdpo_jax.advantages import chain, condition
from gdpo_jax.errors import UserError

SUMMARIES = {
    "collapse": findings.collapse,
    "cancel": findings.cancel,
    "conditioning": findings.conditioning,
    "pareto": fronts.pareto,
}


def run_study(study: Study | CountingStudy) -> Findings:
    """Runs the study. Raises UserError for an unknown estimator or fewer than one seed."""
    estimators = estimators_named(study.estimators)
    if isinstance(study, CountingStudy):
        return count_groups(study, estimators)
    return SUMMARIES[study.name](study, train_cases(study, estimators))


def train_cases(study: Study, estimators: Sequence[Estimator]) -> Outcomes:
    """The curves of every estimator in every case.

    Cases that differ in weights and scales alone run as one program, unless the estimator looks at
    the scales.
    """
    if study.seeds < 1:
        raise UserError(f"seeds={study.seeds} must be at least 1")
    outcomes: dict[tuple[str, str], Curves] = {}
    for estimator in estimators:
        together: dict[tuple, list[Case]] = {}
        for case in study.cases:
            task = case.task
            if not estimator.needs_task and case.gate is None:
                task = task.with_unit_scales()
            together.setdefault((task, case.gate), []).append(case)
        for (task, gate), cases in together.items():
            curves = train_many(
                task,
                study.training,
                behind_gate(estimator.make, gate),
                np.array([case.weights for case in cases], np.float32),
                seeds=study.seeds,
                loudness=np.array([case.task.scales / task.scales for case in cases]),
            )
            for i, case in enumerate(cases):
                outcomes[estimator.label, case.label] = jax.tree.map(lambda x, i=i: x[i], curves)
    # In the order of the cases, whichever ran together.
    labels = [(one.label, case.label) for one in estimators for case in study.cases]
    return {label: outcomes[label] for label in labels}


def behind_gate(make: MakeEstimator, gate: Gate | None) -> MakeEstimator:
    """The estimator with a conditioned reward in front of it."""
    if gate is None:
        return make
    stage = condition(gate.name, on=gate.on, at_least=gate.at_least)
    return lambda task, weights: chain(stage, make(task, weights))


__all__ = ["SUMMARIES", "behind_gate", "run_study", "train_cases"]
