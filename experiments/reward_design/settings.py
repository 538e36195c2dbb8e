"""What a study fixes, as frozen records; configs/ holds one of each."""

import dataclasses
from collections.abc import Mapping

from experiments.reward_design.learning import Training
from experiments.reward_design.tasks import Task
from gdpo_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gate:
    """A conditioned reward (GDPO eq. 8): `name` counts where `on` is at least `at_least`."""

    name: str
    on: str
    at_least: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One setting in which every estimator is trained."""

    label: str
    task: Task
    weights: tuple[float, ...]  # one per reward, in the order of the task
    gate: Gate | None = None  # stands in front of the estimator

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.task.rewards):
            raise UserError(
                f"case {self.label!r}: {len(self.weights)} weights for {list(self.task.names)}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A study that trains: every estimator in every case, over the same seeds."""

    name: str  # as given on the command line
    title: str
    estimators: tuple[str, ...]  # unless the command line names others
    cases: tuple[Case, ...]
    training: Training
    seeds: int  # seeds 0 to seeds - 1; each is another task of the family


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountingStudy:
    """A study that counts distinct advantage groups; nothing is trained and nothing is random."""

    name: str
    title: str
    estimators: tuple[str, ...]
    group_sizes: tuple[int, ...]  # with two rewards
    reward_counts: tuple[int, ...]  # with `group_size` samples
    group_size: int
    expected_by_group: Mapping[str, Mapping[int, int]]  # estimator -> group size -> count
    expected_by_rewards: Mapping[str, Mapping[int, int]]  # estimator -> rewards -> count


__all__ = ["Case", "CountingStudy", "Gate", "Study"]
