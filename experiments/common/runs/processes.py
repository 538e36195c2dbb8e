"""Arms that do not depend on each other, side by side: processes with a share of the cores each.

A process is given one arm at a time, a line of JSON on its standard input, and answers with the
lines of `Event` on its standard output. What it prints for people goes to its standard error. The
run folder is all that the processes share.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, TextIO

from rich.console import Console

from experiments.common.runs.arms import Arm
from experiments.common.runs.folder import Workspace
from experiments.common.runs.pipeline import Event, Tell, evaluate_arm, is_scored, train_arm
from experiments.common.runs.schedule import (
    Task,
    all_tasks,
    done_alone,
    ready,
    tasks_left,
)
from experiments.common.scores.summaries import read_summary
from gdpo_jax.errors import UserError
from gdpo_jax.recipe import Model
from gdpo_jax.training.signals import StopSignals

__all__ = ["answers_apart", "evaluate_apart", "most_processes", "work"]

_LOOK = 0.5  # seconds between looks whether the parent is there


def most_processes() -> int:
    """How many processes can have a core of their own."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def evaluate_apart(
    space: Workspace,
    arms: Sequence[Arm],
    seeds: int,
    *,
    processes: int,
    command: Sequence[str],
    tell: Tell,
    console: Console,
) -> None:
    """Trains and scores the arms of all seeds by several processes.

    What nothing can be done beside (the first stage of one seed) is done here, with all cores.
    command: starts a process that calls `work`. Sums are added in another order on fewer cores, so
    numbers differ from those of one process by rounding, and then by what training makes of it.
    How many cores an arm gets follows from the whole run, not from what is left of it, so that a
    run that is started again ends with the same numbers.

    Raises UserError if a process ends before its work does; the others store their state and stop.
    """
    everything, waiting = list[Task](), list[Task]()
    for seed in range(seeds):
        everything += all_tasks(space, arms, seed)
        waiting += tasks_left(space, arms, seed)
        for arm in arms:
            if is_scored(space, arm, seed):
                tell(_event(space, {"what": "kept", "arm": arm.name, "seed": seed, "seconds": 0.0}))
    kept: dict[str, Model] = {}
    alone = done_alone(everything)
    for task in alone:
        if task in waiting:
            _do(space, task, kept, tell)
            waiting.remove(task)
    if not waiting:
        return
    shares = list(_shares(min(processes, len(everything) - len(alone))))
    with _Workers(command, shares[: len(waiting)], console) as workers:
        idle, running = list(range(len(workers.processes))), {}
        while waiting or running:
            for task in ready(waiting, running.values())[: len(idle)]:
                worker = idle.pop(0)
                arm = space.experiment.arm(task.arm)
                workers.give(worker, task, title=f"{arm.title}, seed {task.seed}")
                waiting.remove(task)
                running[worker] = task
            worker, message = workers.next_message()
            if message is None:
                # It has closed its answers, and says why before it ends.
                workers.processes[worker].wait()
                task = running.get(worker)
                doing = f"training {task.arm}, seed {task.seed}" if task else "waiting for work"
                raise UserError(
                    f"a process stopped while {doing} (its messages stand above); the same command "
                    "goes on from the last checkpoints"
                )
            if message["what"] == "done":
                del running[worker]
                idle.append(worker)
            else:
                tell(_event(space, message))


def work(space: Workspace, orders: TextIO, answers: TextIO) -> None:
    """Trains and scores the arms that `orders` name, until it ends, or the process that gives them:
    the next one to work in the run folder must not wait for this one.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    kept: dict[int, dict[str, Model]] = {}

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def tell(event: Event) -> None:
        told = {"what": event.what, "arm": event.arm.name, "seed": event.seed}
        answer({**told, "seconds": event.seconds})

    for line in orders:
        task = Task(**json.loads(line))
        # Models of an earlier seed are needed no more.
        kept = {task.seed: kept.get(task.seed, {})}
        _do(space, task, kept[task.seed], tell)
        answer({"what": "done"})


def _do(space: Workspace, task: Task, kept: MutableMapping[str, Model], tell: Tell) -> None:
    arm = space.experiment.arm(task.arm)
    do = evaluate_arm if task.scored else train_arm
    trained = do(space, arm, task.seed, kept=kept, tell=tell)
    if any(other.start == arm.name for other in space.experiment.arms):
        kept[arm.name] = trained.merged()


def _end_with(parent: int) -> None:
    """End this process, as SIGKILL would, when it is no longer the child of `parent`."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


def _event(space: Workspace, message: dict[str, Any]) -> Event:
    arm, seed = space.experiment.arm(message["arm"]), message["seed"]
    table = None
    if message["what"] != "trained":
        table = read_summary(space.arm_dir(arm.name, seed) / "scores.json")
    return Event(message["what"], arm, seed, message["seconds"], table)


class _Workers:
    """Processes with a share of the cores each. Leaving asks them to stop, and waits for them."""

    def __init__(self, command: Sequence[str], shares: Sequence[Sequence[int]], console: Console):
        count = len(shares)
        self._messages: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._console, self._signals = console, StopSignals(quiet=True)
        self._titles, self._lines = [""] * count, [""] * count
        self._status = console.status("") if console.is_terminal else None
        self._readers: list[threading.Thread] = []
        self.processes = []
        for share in shares:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            cores = ["--cores", *map(str, share)] if share else []
            # Ctrl-C reaches this process alone: asked twice, the others would end at once.
            self.processes.append(
                subprocess.Popen([*command, *cores], text=True, start_new_session=True, **pipes)
            )

    def __enter__(self) -> "_Workers":
        self._signals.open()
        if self._status is not None:
            self._status.start()
        for number, process in enumerate(self.processes):
            for read, stream in ((self._answers, process.stdout), (self._told, process.stderr)):
                self._readers.append(threading.Thread(target=read, args=(number, stream)))
                self._readers[-1].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for process in self.processes:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            if kind is not None:
                process.terminate()
        for process in self.processes:
            process.wait()
        # What they printed last, such as an error, is told before it is spoken of.
        for reader in self._readers:
            reader.join()
        for process in self.processes:
            process.stdout.close()
            process.stderr.close()
        if self._status is not None:
            self._status.stop()
        self._signals.close()

    def give(self, worker: int, task: Task, *, title: str) -> None:
        """One process's next work; `title` is how its lines of progress begin."""
        self._titles[worker] = title
        stdin = self.processes[worker].stdin
        # A process that is gone is found at its end of file.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(vars(task)) + "\n")
            stdin.flush()

    def next_message(self) -> tuple[int, dict[str, Any] | None]:
        """The next answer of any process, None if it has ended."""
        with self._signals.at_once():
            return self._messages.get()

    def _answers(self, worker: int, stream: TextIO) -> None:
        for line in stream:
            self._messages.put((worker, json.loads(line)))
        self._messages.put((worker, None))

    def _told(self, worker: int, stream: TextIO) -> None:
        for line in stream:
            if self._status is not None and line.startswith(self._titles[worker]):
                self._lines[worker] = line.rstrip()
                self._status.update("\n".join(filter(None, self._lines)))
            else:
                self._console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)


def _shares(count: int) -> Iterator[list[int]]:
    """The cores of this process, divided; none where the system does not say which they are."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for part in range(count):
        yield cores[part::count]


@contextlib.contextmanager
def answers_apart() -> Iterator[TextIO]:
    """Standard output for answers alone: all else that is printed goes to standard error."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        yield answers
