"""In which order arms can be trained: each after the one it starts from."""

import dataclasses
import heapq
from collections.abc import Collection, Mapping, Sequence

from experiments.common.runs.arms import Arm
from experiments.common.runs.folder import Workspace
from experiments.common.runs.pipeline import arms_on_the_way, is_scored, is_trained

__all__ = ["Task", "all_tasks", "done_alone", "minutes_left", "ready", "tasks_left"]


@dataclasses.dataclass(frozen=True)
class Task:
    """One arm of one seed; `scored`: it is also answered and scored."""

    seed: int
    arm: str
    start: str | None
    scored: bool


def all_tasks(space: Workspace, arms: Sequence[Arm], seed: int) -> list[Task]:
    """What a run of these arms has to do in all, each behind what it starts from."""
    needed = {step.name for arm in arms for step in arms_on_the_way(space, arm)}
    return [
        Task(seed, arm.name, arm.start, scored=arm in arms)
        for arm in space.experiment.arms
        if arm.name in needed
    ]


def tasks_left(space: Workspace, arms: Sequence[Arm], seed: int) -> list[Task]:
    """What has to be done before these arms have scores, each behind what it starts from."""
    unscored = [arm for arm in arms if not is_scored(space, arm, seed)]
    needed = {arm.name for arm in unscored}
    for arm in unscored:
        *before, _ = arms_on_the_way(space, arm)
        needed |= {one.name for one in before if not is_trained(space, one, seed)}
    return [
        Task(seed, arm.name, arm.start, scored=arm in unscored)
        for arm in space.experiment.arms
        if arm.name in needed
    ]


def ready(waiting: Sequence[Task], running: Collection[Task]) -> list[Task]:
    """The waiting tasks whose start is neither waiting nor running."""
    unfinished = {(task.seed, task.arm) for task in (*waiting, *running)}
    return [task for task in waiting if (task.seed, task.start) not in unfinished]


def done_alone(tasks: Sequence[Task]) -> list[Task]:
    """The first tasks that nothing can be done beside, as the first stage of one seed."""
    waiting, found = list(tasks), []
    while len(first := ready(waiting, ())) == 1 and not first[0].scored:
        waiting.remove(first[0])
        found += first
    return found


def minutes_left(tasks: Sequence[Task], minutes: Mapping[str, float], processes: int) -> float:
    """How long tasks take that are handed out as soon as they are ready, by minutes of each arm."""
    waiting, running, now = list(tasks), [], 0.0
    while waiting or running:
        begun = [task for _, _, task in running]
        for task in ready(waiting, begun)[: processes - len(running)]:
            waiting.remove(task)
            heapq.heappush(running, (now + minutes.get(task.arm, 0.0), len(waiting), task))
        now, _, _ = heapq.heappop(running)
    return now
