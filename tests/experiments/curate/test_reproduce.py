"""Arms trained, answered and scored from the command line, in a few steps."""

import json

import pytest

from experiments.curate.__main__ import EXPERIMENT, main
from experiments.curate.presets import PRESETS
from experiments.curate.settings import TurnsOption


@pytest.mark.slow
def test_arms_are_trained_and_scored_and_a_second_call_does_nothing_twice(tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["reproduce", "--preset", "smoke", "--run-dir", str(folder), "--processes", "1"]
    arguments += ["--arms", "mirror", "gdpo", "--bootstrap", "50", "--own-turns", "True"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "MIRROR: answered and scored" in told and "GDPO: trained in" in told
    assert json.loads((folder / "preset.json").read_text())["own_turns"] is True
    rows = json.loads((folder / "seed-0" / "gdpo" / "scores.json").read_text())
    assert rows["judge"] == {"judge": "rules", "version": 1}
    samples = (folder / "seed-0" / "gdpo" / "samples.jsonl").read_text().splitlines()
    assert all("heeds" in line and "calm" in line for line in samples)
    assert "<h1>CURaTe" in (folder / "report.html").read_text()
    assert main(arguments) == 0
    again = capsys.readouterr().out
    assert again.count("scored before") == 2 and "trained in" not in again
    # Behind other earlier answers it is another run.
    assert main([*arguments[:-1], "False"]) == 2


def test_the_choice_of_earlier_answers_leaves_the_rest_of_a_preset_alone():
    preset = PRESETS["mini"]
    assert TurnsOption().apply(preset) == preset
    assert TurnsOption(own_turns=True).apply(preset).own_turns
    assert not TurnsOption(own_turns=False).apply(preset).own_turns


def test_arms_with_a_model_as_it_is_train_nothing():
    steps = {arm.name: arm.stage.steps(PRESETS["mini"]) for arm in EXPERIMENT.arms}
    idle = {"base", "guided", "facts", "mirror", "gdpo-mirror"}
    assert {name for name, count in steps.items() if count == 0} == idle
    # In the preset smoke these have the same settings.
    assert [steps[name] for name in ("knowledge", "language", "sft")] == [600, 700, 200]
