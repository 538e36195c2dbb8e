"""Where GDPO does not help: r_2 = C - r_1 cancels to exactly zero; and two ways out.

    python -m experiments.reward_design run cancel

The first version of arXiv 2601.05242 (section 3.1) says otherwise of such rewards.
Cost: 11 seconds on one CPU core. Expect a largest update of exactly 0 for equal weights, under GRPO
and GDPO, and r1 at 0.99 with unequal weights or a condition; 16 seeds.
"""

from experiments.reward_design.learning import Training
from experiments.reward_design.settings import Case, Gate, Study
from experiments.reward_design.tasks import Reward, Task

# Hidden scores of correlation -1: the better half for one reward is the worse half for the other.
_TASK = Task(
    rewards=(Reward(name="r1", sparsity=0.5), Reward(name="r2", sparsity=0.5)), correlation=-1.0
)

STUDY = Study(
    name="cancel",
    title="Rewards that cancel",
    estimators=("grpo", "gdpo"),
    cases=(
        Case(label="weights 1, 1", task=_TASK, weights=(1.0, 1.0)),
        Case(label="weights 1, 0.5", task=_TASK, weights=(1.0, 0.5)),
        Case(
            label="r2 conditioned on r1",
            task=_TASK,
            weights=(1.0, 1.0),
            gate=Gate(name="r2", on="r1", at_least=1.0),
        ),
    ),
    training=Training(steps=200),
    seeds=16,
)
