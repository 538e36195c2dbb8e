"""Arms side by side: the order they can be trained in, and several processes at one run folder."""

import io
import json
import os
import signal
import time
from pathlib import Path

import pytest

from experiments.common.runs.folder import open_workspace
from experiments.common.runs.processes import work
from experiments.common.runs.schedule import (
    Task,
    all_tasks,
    done_alone,
    minutes_left,
    ready,
    tasks_left,
)
from gdpo_jax.training.lock import only_run_in
from gdpo_jax.training.signals import STOPPED
from tests.experiments.common.runs.study import PRESET, study
from tests.processes.forked import Forked

PROGRAM = Path(__file__).with_name("study_program.py")


def task(arm, start, *, scored=True, seed=0):
    return Task(seed, arm, start, scored)


def test_an_arm_is_ready_when_its_start_is_finished():
    base, first, second = (
        task("base", None, scored=False),
        task("first", "base"),
        task("second", "first"),
    )
    other = task("first", "base", seed=1)
    assert ready([base, first, second], ()) == [base]
    assert ready([first, second], [base]) == []
    assert ready([first, second], ()) == [first]
    # Seeds do not wait for each other.
    assert ready([second, other], [first]) == [other]


def test_how_long_a_schedule_takes():
    tasks = [
        task("base", None, scored=False),
        *(task(name, "base") for name in ("first", "second")),
        *(task(name, "first") for name in ("third", "fourth")),
    ]
    minutes = {"base": 1.0, "first": 2.0, "second": 4.0, "third": 3.0, "fourth": 0.5}
    assert minutes_left(tasks, minutes, 1) == 10.5
    # base to 1, first to 3 and second to 5, third behind first to 6, fourth behind second to 5.5.
    assert minutes_left(tasks, minutes, 2) == 6.0
    assert minutes_left([], minutes, 2) == 0.0


def test_what_is_left_has_what_it_starts_from(tmp_path):
    experiment = study(tmp_path / "log")
    space = open_workspace(experiment, tmp_path / "run", PRESET)
    third = [experiment.arm("third")]
    left = [task("base", None, scored=False), task("first", "base", scored=False)]
    assert tasks_left(space, third, 0) == [*left, task("third", "first")]
    orders = io.StringIO("".join(json.dumps(vars(one)) + "\n" for one in left))
    answers = io.StringIO()
    work(space, orders, answers)
    told = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [one["what"] for one in told] == ["trained", "done"] * 2
    assert tasks_left(space, third, 0) == [task("third", "first")]
    # What is done decides nothing of how the run is divided.
    assert all_tasks(space, third, 0) == [*left, task("third", "first")]
    assert done_alone(all_tasks(space, third, 0)) == left
    both = [one for seed in (0, 1) for one in all_tasks(space, third, seed)]
    assert done_alone(both) == []


def start(tmp_path, **environment):
    """The study as a program, whose own processes start as they do for users."""
    return Forked(
        *(PROGRAM, "reproduce", "--run-dir", tmp_path / "run", "--processes", 2),
        environment={**os.environ, "STUDY_LOG": str(tmp_path / "log"), **environment},
    )


def trainings(tmp_path):
    return sorted((tmp_path / "log").read_text().splitlines())


def wait_for(arm, tmp_path, process):
    deadline = time.monotonic() + 240
    log = tmp_path / "log"
    while not log.is_file() or f"{arm}, seed 0" not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_the_others_end_with_a_process_that_is_killed(tmp_path):
    process = start(tmp_path, STUDY_HANGS="second")
    wait_for("second", tmp_path, process)
    process.kill()
    process.communicate(timeout=60)
    # The hanging one holds this lock as long as it lives.
    with only_run_in(tmp_path / "run" / "seed-0" / "second", patience=60.0):
        pass


@pytest.mark.slow
def test_a_failing_arm_and_a_signal_stop_all_and_the_same_command_goes_on(tmp_path):
    process = start(tmp_path, STUDY_BROKEN="third")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors
    assert "a process stopped while training third, seed 0" in " ".join(errors.split())
    assert "a reward that nobody knows" in output
    process = start(tmp_path, STUDY_HANGS="third")
    wait_for("third", tmp_path, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == STOPPED
    # Nothing holds the folder: the run goes on to its end.
    process = start(tmp_path)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output.count("seed 0, third: answered and scored") == 1
    assert "report: " in output
    # Each start was trained once; later processes only load it, which this study notes as well.
    assert {"base, seed 0", "first, seed 0", "second, seed 0", "third, seed 0"} == set(
        trainings(tmp_path)
    )
    for name in ("first", "second", "third"):
        assert (tmp_path / "run" / "seed-0" / name / "scores.json").is_file()
