"""All arms from end to end in a few steps, what is looked at inside of them, and the page."""

import json

import numpy as np
import pytest

from experiments.common.scores.summaries import read_summary
from experiments.dcr.__main__ import EXPERIMENT, main

ARMS = [arm.name for arm in EXPERIMENT.compared]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run of the preset smoke, with kernel and separation."""
    folder = tmp_path_factory.mktemp("dcr") / "run"
    same = ["--preset", "smoke", "--run-dir", str(folder)]
    assert main(["reproduce", *same, "--processes", "1", "--bootstrap", "50"]) == 0
    assert main(["separation", *same, "--count", "12"]) == 0
    few = ["--count", "2", "--top-k", "3", "--arms", "stl", "dcr", "--bound", "1"]
    assert main(["kernel", *same, *few]) == 0
    assert main(["report", str(folder), "--bootstrap", "50"]) == 0
    return folder


@pytest.mark.slow
def test_every_arm_has_all_columns(run):
    for arm in ARMS:
        table = read_summary(run / "seed-0" / arm / "scores.json")
        missing = {metric.name for metric in EXPERIMENT.metrics} - set(table.values)
        assert not missing and len(table) == 48, arm
        assert np.isfinite(table.means()["loss"]) and table.means()["p_toxic"] <= 1


@pytest.mark.slow
def test_refinement_leaves_what_is_behind_its_layer_and_its_answers_are_scored(run):
    rows = (run / "seed-0" / "refined" / "metrics.jsonl").read_text().splitlines()
    assert "loss" in json.loads(rows[0])
    samples = (run / "seed-0" / "gdpo" / "samples.jsonl").read_text().splitlines()
    assert all(name in samples[0] for name in ("refuses", "complies", "helpful", "ends"))


@pytest.mark.slow
def test_what_was_looked_at_is_beside_the_arms(run):
    kernel = json.loads((run / "seed-0" / "kernel.json").read_text())
    assert list(kernel["arms"]) == list(kernel["bound"]["arms"]) == ["stl", "dcr"]
    assert set(kernel["arms"]["dcr"]["blocks"]) == {"plain", "seeming", "toxic"}
    assert kernel["bound"]["layer"] == 1
    for terms in kernel["bound"]["arms"].values():
        assert 0 < terms["kernel"] <= terms["bound"] * 1.001
        assert terms["bound"] == pytest.approx(terms["features"] + terms["remainder"])
    layers = json.loads((run / "seed-0" / "separation.json").read_text())["arms"]
    assert list(layers) == ["base", "refined", "stl", "dcr"]
    assert [row["layer"] for row in layers["base"]] == [1, 2]


@pytest.mark.slow
def test_the_page_has_all_sections(run):
    page = (run / "report.html").read_text()
    for heading in (
        "Compliance and refusal",
        "Over strength",
        "Families",
        "Separation",
        "Learning kernel",
        "Answers",
    ):
        assert f">{heading}</h2>" in page, heading
    assert "area under the curve" in page and "privacy" in page


@pytest.mark.slow
def test_a_second_call_does_nothing_twice_and_arms_that_are_not_there_are_named(run, capsys):
    arguments = ["reproduce", "--preset", "smoke", "--run-dir", str(run), "--processes", "1"]
    assert main([*arguments, "--bootstrap", "50"]) == 0
    told = capsys.readouterr().out
    assert told.count("scored before") == len(ARMS) and "trained in" not in told
    assert main(["kernel", *arguments[1:5], "--count", "2", "--bound", "9"]) == 2
    assert main(["kernel", *arguments[1:5], "--count", "2", "--seed", "7"]) == 2
    assert "seed 7 is not trained" in " ".join(capsys.readouterr().err.split())
