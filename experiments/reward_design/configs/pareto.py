"""Which compromises between two rewards in conflict can be chosen by their weights.

    python -m experiments.reward_design run pareto

Cost: 10 seconds on one CPU core. Expect an area under the front of 0.741 +-0.035 (GRPO) and 0.847
+-0.026 (GDPO) with one reward 10 times as loud; 0.865 and 0.847 at equal scales; 16 seeds.
"""

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
