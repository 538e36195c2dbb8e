"""What of a run is done once, and what again."""

import dataclasses
import io
import json
import os

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.common.runs.folder import open_workspace
from experiments.common.runs.pipeline import evaluate_arms, is_scored, train_arm
from experiments.common.runs.terminal import print_stages, tell_on
from gdpo_jax.training import MeshConfig, make_mesh
from tests.experiments.common.runs.study import PRESET, study


class Run:
    """A workspace that counts how often a model is opened, and tells what was trained."""

    def __init__(self, folder, **options):
        self.log = folder / "log"
        self.mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        self.experiment = study(self.log, **options)
        self.space = open_workspace(self.experiment, folder / "run", PRESET)
        self.events = []

    def evaluate(self):
        self.log.write_text("")
        self.events = []
        arms = self.experiment.compared
        evaluate_arms(self.space, arms, 0, mesh=self.mesh, tell=self.events.append)
        return self.log.read_text().splitlines()


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_a_start_is_trained_once_for_all_arms_of_a_call(run, monkeypatch):
    opened = []
    start = run.space.open_start
    monkeypatch.setitem(
        run.space.__dict__, "open_start", lambda *given: opened.append(given) or start(*given)
    )
    assert run.evaluate() == [f"{name}, seed 0" for name in ("base", "first", "second", "third")]
    assert len(opened) == 1
    assert [event.what for event in run.events] == ["trained"] * 2 + ["scored"] + [
        "trained",
        "scored",
    ] * 2


def test_a_finished_run_answers_and_scores_nothing_again(run):
    run.evaluate()
    scores = run.space.arm_dir("second", 0) / "scores.json"
    before = scores.read_bytes(), scores.stat().st_mtime_ns
    assert run.evaluate() == []
    assert [event.what for event in run.events] == ["kept"] * 3
    assert (scores.read_bytes(), scores.stat().st_mtime_ns) == before
    assert json.loads(scores.read_text())["rule"] == "length"


def test_an_arm_is_scored_again_after_later_training_and_other_settings(run):
    run.evaluate()
    second, first = run.experiment.arm("second"), run.experiment.arm("first")
    trained = run.space.arm_dir("first", 0) / "checkpoints" / "1"
    later = run.space.arm_dir("second", 0) / "scores.json"
    time = later.stat().st_mtime_ns + 10**9
    os.utime(trained, ns=(time, time))
    assert not is_scored(run.space, second, 0) and not is_scored(run.space, first, 0)
    assert run.evaluate() != []
    os.utime(trained, ns=(0, 0))
    assert is_scored(run.space, second, 0)
    (run.space.arm_dir("second", 0) / "outputs.jsonl").unlink()
    assert not is_scored(run.space, second, 0) and is_scored(run.space, first, 0)


def test_one_arm_alone_trains_what_it_starts_from(run):
    train_arm(run.space, run.experiment.arm("third"), 3, mesh=run.mesh)
    assert run.log.read_text().splitlines() == ["base, seed 3", "first, seed 3", "third, seed 3"]


def test_what_is_told_on_the_way(run):
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    arms = run.experiment.compared
    print_stages(run.space, arms, 2, console)
    plan = stream.getvalue()
    assert "preset tiny, 2 seeds" in plan and "0 of 2" in plan and "Noted" in plan
    assert "minute" not in plan
    timed = dataclasses.replace(PRESET, minutes={"base": 0.5, "first": 1.25, "third": 2.0})
    assert timed.to_json() == PRESET.to_json()
    timely = dataclasses.replace(run.space, preset=timed)
    print_stages(timely, arms, 2, console, processes=2)
    timed_plan = stream.getvalue().removeprefix(plan)
    assert "1.2" in timed_plan and "about 4 minutes" in timed_plan and "2 processes" in timed_plan
    stream.seek(len(plan))
    stream.truncate()
    tell = tell_on(console, run.experiment.metrics, arms)
    evaluate_arms(run.space, arms, 0, mesh=run.mesh, tell=tell)
    told = stream.getvalue().removeprefix(plan)
    first, second, third = told.split("answered and scored")[1:]
    assert "1.00" in first and first.count("...") == 2
    assert "2.00" in second and second.count("...") == 1
    assert "3.00" in third and "..." not in third
    stream.truncate(0)
    evaluate_arms(run.space, arms, 0, mesh=run.mesh, tell=tell)
    assert stream.getvalue().count("scored before") == 3
    print_stages(run.space, arms, 1, console)
    assert stream.getvalue().count("1 of 1") == 3


def test_what_is_measured_of_the_model_stands_beside_its_answers(tmp_path):
    def measure(model, prompts, records, data, preset):
        sizes = [float(len(prompt)) for prompt in prompts]
        return {"size": np.array(sizes)}

    run = Run(tmp_path)
    run.space = dataclasses.replace(
        run.space, experiment=dataclasses.replace(run.experiment, measure=measure)
    )
    run.evaluate()
    table = run.events[-1].table
    prompts = [record["prompt"] for record in run.space.data.records["test"]]
    assert table.values["size"].tolist() == [float(len(prompt)) for prompt in prompts]
    stored = json.loads((run.space.arm_dir("third", 0) / "scores.json").read_text())
    assert "size" in stored["metrics"]
