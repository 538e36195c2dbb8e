"""Studies by name; each file opens with what it reproduces, its command, cost and numbers."""

from experiments.reward_design.configs import cancel, collapse, conditioning, distinct, pareto
from experiments.reward_design.settings import CountingStudy, Study

__all__ = ["STUDIES"]

STUDIES: dict[str, Study | CountingStudy] = {
    module.STUDY.name: module.STUDY for module in (distinct, collapse, cancel, conditioning, pareto)
}
