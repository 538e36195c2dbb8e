"""All arms from end to end in a few steps, and the page."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments.common.scores.summaries import read_summary
from experiments.persona_leakage.__main__ import EXPERIMENT, main
from experiments.persona_leakage.measures.strength import read_strengths

# Partners are arms like the others, with other examples: two of them, one of each kind, are enough.
PARTNERS = ("shared-without", "separation-without")
SHORT = dataclasses.replace(
    EXPERIMENT,
    arms=tuple(a for a in EXPERIMENT.arms if a.name in PARTNERS or not a.name.endswith("-without")),
)
ARMS = [arm.name for arm in SHORT.compared]


@pytest.fixture(scope="module")
def run(tmp_path_factory, persona_data):
    """The folder of a finished run of the preset smoke.

    Its own data set is there before it starts; test_arms.py tests that a run writes it otherwise.
    """
    folder = tmp_path_factory.mktemp("persona") / "run"
    shutil.copytree(persona_data / "data", folder / "data")
    same = ["--preset", "smoke", "--run-dir", str(folder)]
    assert main(["reproduce", *same, "--processes", "1", "--bootstrap", "50"], SHORT) == 0
    assert main(["strength", *same], SHORT) == 0
    assert main(["report", str(folder), "--bootstrap", "50"], SHORT) == 0
    return folder


@pytest.mark.slow
def test_every_arm_has_all_columns(run):
    for arm in ARMS:
        table = read_summary(run / "seed-0" / arm / "scores.json")
        assert {metric.name for metric in EXPERIMENT.metrics} <= set(table.values), arm
        assert len(table) == (12 + 24) * (1 + 6)
        assert np.isfinite(table.means()["words"])


@pytest.mark.slow
def test_costs_and_strengths_stand_in_the_folder_and_on_the_page(run):
    costs = json.loads((run / "costs.json").read_text())["arms"]
    assert set(costs) == set(ARMS) - set(PARTNERS)
    assert costs["shared"]["stored_bytes"] == 0 and costs["shared"]["training_seconds"] > 0
    assert costs["separation"]["training_seconds"] is None
    assert costs["all"]["of"] == costs["adapters"]["of"] | costs["fingerprint"]["of"]
    for name, what in {
        "separation": "notes",
        "fingerprint": "texts of enrolment",
        "adapters": "adapter",
    }.items():
        assert 0 < costs[name]["of"][what] <= costs[name]["stored_bytes"]
    kl = read_strengths(run / "seed-0" / "strengths.jsonl")
    assert len(kl) == 24 and all(one.strength > 0 for one in kl)
    assert sum(not np.isnan(one.leakage) for one in kl) == 12
    assert len(read_strengths(run / "seed-0" / "strengths-recall.jsonl")) == 12
    page = (run / "report.html").read_text()
    assert "Selective isolation by KL" in page and "Selective isolation by recall" in page


@pytest.mark.slow
def test_answers_are_rewarded_apart(run):
    [first, *_] = (run / "seed-0" / "gdpo" / "samples.jsonl").read_text().splitlines()
    assert set(json.loads(first)["rewards"]) == {"keeps_apart", "relevant", "personal"}


@pytest.mark.slow
def test_a_second_call_does_nothing_twice(run, capsys):
    arguments = ["reproduce", "--preset", "smoke", "--run-dir", str(run), "--processes", "1"]
    assert main([*arguments, "--bootstrap", "50"], SHORT) == 0
    told = capsys.readouterr().out
    assert told.count("scored before") == len(ARMS) and "trained in" not in told
    assert (run / "report.html").is_file()
