"""The experiment that docs/experiments.md quotes: it runs, and stands there as it is."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from experiments.common.command_line import main
from experiments.common.runs.folder import Workspace
from gdpo_jax.training import MeshConfig, make_mesh
from tests.experiments.toy_experiment import EXPERIMENT

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """As on a user's CPU: programs for one device compile sooner."""
    one = make_mesh(MeshConfig(), jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "make_mesh", lambda space: one)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "run"
    assert main(EXPERIMENT, arguments=["reproduce", "--run-dir", str(folder)]) == 0
    return folder


def test_the_page_quotes_the_whole_file_and_it_is_short():
    text = (ROOT / "tests" / "experiments" / "toy_experiment.py").read_text()
    assert f"```python\n{text}```" in (ROOT / "docs" / "experiments.md").read_text()
    assert len(text.splitlines()) <= 60


def test_it_gives_metrics_with_intervals_a_verdict_and_a_page(finished):
    results = json.loads((finished / "results.json").read_text())
    assert list(results["arms"]) == ["told", "brief"]
    for arm in results["arms"].values():
        right = arm["metrics"]["right"]
        assert 0 <= right["interval"]["low"] <= right["mean"] <= right["interval"]["high"] <= 1
    assert results["arms"]["told"]["metrics"]["right"]["mean"] > 0.3
    assert "against_baseline" in results["arms"]["brief"]["metrics"]["right"]
    [verdict] = results["verdicts"]
    assert verdict["holds"] in (True, False)
    page = (finished / "report.html").read_text()
    assert "brevity costs no right answers" in page and "imitation, then brevity" in page
    assert json.loads((finished / "run.json").read_text())["experiment"] == "toy"


def test_an_experiment_s_own_files_stand_beside_the_page(finished):
    counted = replace(EXPERIMENT, files={"arms.json": lambda run: {"arms": len(run.arms)}})
    assert main(counted, arguments=["report", str(finished), "--bootstrap", "20"]) == 0
    assert json.loads((finished / "arms.json").read_text()) == {"arms": 2}


def test_run_again_it_answers_nothing_twice_and_says_what_to_try(finished, capsys):
    scores = finished / "seed-0" / "brief" / "scores.json"
    before = scores.stat().st_mtime_ns
    assert main(EXPERIMENT, arguments=["reproduce", "--run-dir", str(finished)]) == 0
    shown = capsys.readouterr().out
    assert scores.stat().st_mtime_ns == before
    assert shown.count("scored before") == 2 and "1 of 1" in shown
    assert f"report: {finished / 'report.html'}" in shown
    lines = shown.split("next:\n")[1].splitlines()
    assert [line.split()[3] for line in lines] == ["reproduce", "answer", "report"]
    for line in lines:
        command, *arguments = line.split()[3:]
        assert command in ("reproduce", "answer", "report") and str(finished) in arguments


@pytest.mark.parametrize("command", ["train", "answer", "reproduce"])
def test_help_names_arms_and_presets(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(EXPERIMENT, arguments=[command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "tiny" in shown and "brief" in shown and "--dry-run" in shown


@pytest.mark.parametrize(
    "arguments",
    [["train", "--arm", "loud"], ["train", "--preset", "big"], ["answer", "--split", "train"]],
)
def test_wrong_names_are_refused_before_anything_starts(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(EXPERIMENT, arguments=arguments)
    assert stopped.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_answers_of_another_split_are_scored_beside(finished, capsys):
    options = ["--arm", "told", "--split", "validation", "--run-dir", str(finished)]
    assert main(EXPERIMENT, arguments=["answer", *options]) == 0
    folder = finished / "seed-0" / "told" / "answers-validation-0"
    assert json.loads((folder / "scores.json").read_text())["num_conversations"] == 5
    assert str(folder) in capsys.readouterr().out
