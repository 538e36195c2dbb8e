"""The command `attack` on a run of two arms with random parameters."""

import json
import sys

import pytest

from experiments.common.command_line import Data, Experiment, main
from experiments.common.embedded.policies import tokenizer_of
from experiments.common.runs.arms import Arm
from experiments.common.runs.settings import Imitation
from experiments.common.runs.stages import Imitate, NoTraining
from experiments.common.scores.metric import Metric
from experiments.persona_leakage.commands.attack import attacking
from experiments.persona_leakage.measures.exposure import expected_exposure
from experiments.persona_leakage.settings import PersonaPreset
from gdpo_jax.policies import DecoderConfig
from gdpo_jax.training import OptimizerConfig, SFTConfig
from tests.experiments.persona_leakage.attack_cases import RECORDS, USERS

TINY = DecoderConfig(vocab_size=400, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1,
                     head_dim=8, d_ff=32, max_positions=96)  # fmt: skip
LEARN = Imitation(run=SFTConfig(steps=2, batch_size=4), optimizer=OptimizerConfig())


def open_data(folder, preset, own):
    owners = [
        {"id": user.id, "user": user.id, "role": "owner", "prompt": "x", "wanted": mark.text,
         "neutral": "It is so."}
        for user in USERS
        for mark in user.marks
    ]  # fmt: skip
    asked = [{**row, "prompt": row["request"]} for row in RECORDS]
    rows = [*asked, *owners]
    return Data({"train": [], "validation": rows, "test": rows})


def tokenizer(data, preset):
    rows = data.records["test"]
    return tokenizer_of(
        [{"prompt": row["prompt"], "completion": row["wanted"]} for row in rows], vocab_size=400
    )


EXPERIMENT = Experiment(
    name="persona_toy",
    title="A toy",
    open_data=open_data,
    presets={"tiny": PersonaPreset(name="tiny", decoder=TINY, stages={"learn": LEARN},
                                   max_new_tokens=6)},
    arms=(
        Arm(name="shared", title="none", stage=NoTraining()),
        Arm(name="shared-without", title="none, without half", stage=NoTraining()),
        Arm(name="taught", title="taught", stage=Imitate(settings="learn", examples="none")),
    ),
    tokenizer=tokenizer,
    examples={"none": lambda data, preset: []},
    score=lambda *given: None,
    metrics=(Metric("leakage", "leakage"),),
)  # fmt: skip


def told(capsys, *arguments):
    commands = {"attack": attacking(EXPERIMENT, partners={"shared": "shared-without"})}
    status = main(EXPERIMENT, commands, ["attack", *arguments])
    captured = capsys.readouterr()
    return status, " ".join((captured.out + captured.err).split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draws", "-1"], "--draws -1; give at least 0"),
        (["--candidates", "1"], "--candidates 1; give at least 2"),
        (["--temperature", "0"], "--temperature 0"),
        (["--other-seed", "0"], "is the seed itself"),
        (["--style-rate", "1"], "--style-rate 1.0; give a share from 0 to below 1"),
        (["--run-dir", "nowhere"], "nowhere is no run folder"),
        (["--arms"], "--arms names none"),
    ],
)
def test_wrong_options_are_one_error_each(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, text = told(capsys, *arguments)
    assert status == 2 and message in text, text
    assert not list(tmp_path.iterdir())


def test_a_shift_of_style_is_refused_without_scikit_learn(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    status, text = told(capsys, "--other-seed", "1")
    assert status == 2 and "--other-seed compares styles" in text and "[fingerprint]" in text


def test_random_parameters_leak_nothing(capsys, monkeypatch, tmp_path):
    pytest.importorskip("sklearn", reason="no scikit-learn; install the extra fingerprint")
    run = ["--run-dir", str(tmp_path / "run")]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "preset.json").write_text(
        json.dumps(EXPERIMENT.presets["tiny"].to_json()), encoding="utf-8"
    )
    status, text = told(capsys, *run, "--arms", "taught")
    assert status == 2 and "arm 'taught', seed 0 is not trained; run python -m" in text, text
    status, text = told(capsys, *run, "--arms", "shared", "--draws", "1", "--candidates", "64",
                        "--askers", "1", "--samples", "50")  # fmt: skip
    assert status == 0, text
    assert "none: paired leakage against shared-without 0.0000" in text and "16 times" in text
    found = json.loads((tmp_path / "run" / "seed-0" / "attack.json").read_text())
    assert [row["id"] for row in found["requests"]] == [row["id"] for row in RECORDS]
    entry = found["arms"]["shared"]
    assert "left out" not in text
    # Arms of the same parameters say the same; that this is nobody's style is how thresholds were
    # chosen, here on answers to the same requests.
    assert entry["by_kind"]["style"]["mean"] == 0.0 and entry["style_errors"]["worst"] <= 0.01
    assert entry["sources"] == [user.id for user in USERS if user.half == "a"]
    assert entry["flips"]["gained"] == entry["flips"]["lost"] == 0
    assert set(entry["extraction"]) == {"facts", "once", "4 times", "16 times"}
    assert entry["exposure"]["control"]["count"] == 24 * sum(
        "canary" in row["kind"] for row in RECORDS[: len(RECORDS) // 2]
    )
    for name in ("control", "16 times"):
        assert entry["exposure"][name]["mean"] == pytest.approx(expected_exposure(64), abs=1.2)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    status, text = told(capsys, *run, "--arms", "shared-without", "--draws", "0", "--candidates",
                        "2", "--samples", "5")  # fmt: skip
    assert status == 0 and "raw leakage 0.0000" in text
    assert "leakage of style is left out: a style embedding needs scikit-learn" in text
    [entry] = json.loads((tmp_path / "run" / "seed-0" / "attack.json").read_text())["arms"].values()
    assert "style" not in entry["by_kind"] and entry["style_errors"] is None
