"""A loud reward drowns a quiet one in GRPO's sum, and GDPO hears both (arXiv 2601.05242, 3.1).

    python -m experiments.reward_design run collapse

Cost: 6 seconds on one CPU core. Expect the quiet reward at 0.261 +-0.131 (GRPO) and 0.996 +-0.001
(GDPO) with the other one 100 times as loud; 0.981 and 0.996 at equal scales; 16 seeds.
"""

from experiments.reward_design.learning import Training
from experiments.reward_design.settings import Case, Study
from experiments.reward_design.tasks import Reward, Task


def _task(scale: float) -> Task:
    # A judge's noisy grade of every answer, and a rare check that passes or fails.
    return Task(
        rewards=(
            Reward(name="loud", scale=scale, sparsity=0.5, graded=True, noise=0.3),
            Reward(name="quiet", scale=1.0, sparsity=0.75),
        ),
    )


STUDY = Study(
    name="collapse",
    title="A loud reward and a quiet one",
    estimators=("grpo", "gdpo"),
    cases=tuple(
        Case(label=f"loud x{scale:g}", task=_task(scale), weights=(1.0, 1.0))
        for scale in (1.0, 10.0, 100.0)
    ),
    training=Training(steps=300),
    seeds=16,
)
