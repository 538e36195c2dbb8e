"""Plans of runs: programs compiled on shapes alone, what a chip holds and does in them.

`steps` compiles the steps of a run, `comparison` holds several meshes against each other, and
`table` prints both; `python -m gdpo_jax plan` and every `--dry-run` stand on these.
"""

from gdpo_jax.planning.chips import CHIPS, Chip, Pod, open_pod, plan_devices
from gdpo_jax.planning.compiled import StepMemory
from gdpo_jax.planning.steps import PlannedStep, plan_answers, plan_optimization, plan_sft
from gdpo_jax.planning.table import print_plan
from gdpo_jax.planning.work import Work, work_of

__all__ = [
    "CHIPS",
    "Chip",
    "PlannedStep",
    "Pod",
    "StepMemory",
    "Work",
    "open_pod",
    "plan_answers",
    "plan_devices",
    "plan_optimization",
    "plan_sft",
    "print_plan",
    "work_of",
]
