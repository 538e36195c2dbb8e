"""Weights against conditions: an easy reward (short) that pulls against a hard one (correct).

    python -m experiments.reward_design run conditioning

After the length table of arXiv 2601.05242 (eq. 7 and 8), whose weights it sweeps.
Cost: 17 seconds on one CPU core. Expect, under GDPO after 100 steps, correct to fall from 0.543 to
0.138 as the weight of short rises from 0.25 to 1, and from 0.679 to 0.652 if conditioned; 16 seeds.
"""

from experiments.reward_design.learning import Training
from experiments.reward_design.settings import Case, Gate, Study
from experiments.reward_design.tasks import Reward, Task

# Three of 64 answers are correct, half are short, and correct ones tend to be long.
_TASK = Task(
    rewards=(Reward(name="correct", sparsity=0.95), Reward(name="short", sparsity=0.5)),
    completions=64,
    correlation=-0.3,
)
_GATE = Gate(name="short", on="correct", at_least=1.0)
_WEIGHTS = (0.25, 0.5, 0.75, 1.0)  # of short; those of the paper's table

STUDY = Study(
    name="conditioning",
    title="Weights against conditions",
    estimators=("grpo", "gdpo"),
    cases=(
        *(Case(label=f"plain, {w:g}", task=_TASK, weights=(1.0, w)) for w in _WEIGHTS),
        *(Case(label=f"gated, {w:g}", task=_TASK, weights=(1.0, w), gate=_GATE) for w in _WEIGHTS),
    ),
    training=Training(steps=300),
    seeds=16,
)
