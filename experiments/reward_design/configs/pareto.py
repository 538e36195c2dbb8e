"""Which compromises between two rewards can be chosen by their weights."""

from experiments.reward_design.learning import Training
from experiments.reward_design.settings import Case, Study
from experiments.reward_design.tasks import Reward, Task

_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # weight of safe; help gets the rest


def _task(scale: float) -> Task:
    return Task(
        rewards=(
            Reward(name="help", scale=1.0, sparsity=0.0, graded=True, noise=0.1),
            Reward(name="safe", scale=scale, sparsity=0.0, graded=True, noise=0.1),
        ),
        correlation=-0.5,
    )


STUDY = Study(
    name="pareto",
    title="A Pareto sweep over weights",
    estimators=("grpo", "gdpo"),
    cases=tuple(
        Case(
            label=f"safe x{scale:g}, weight {share:g}",
            task=_task(scale),
            weights=(round(1 - share, 6), share),
        )
        for scale in (1.0, 10.0)
        for share in _SHARES
    ),
    training=Training(steps=300),
    seeds=16,
)
