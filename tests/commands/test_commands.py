"""python -m gdpo_jax: train, imitate, answer and export on a folder and files of one's own."""

import json

import numpy as np
import pytest

from gdpo_jax.__main__ import main
from gdpo_jax.models import open_model
from tests.tiny_model import save_tiny_model

REWARDS = """
def letters(completions, records):
    return [c.text.count(r["letter"]) / 8 for c, r in zip(completions, records)]

def brief(completions, records):
    return [-float(len(c.text)) for c in completions]
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A folder with a model, rewards, prompts and demonstrations."""
    folder = tmp_path_factory.mktemp("task")
    save_tiny_model(folder / "model", layers=1)
    (folder / "rewards.py").write_text(REWARDS)
    rows = [{"prompt": f"List {n} films", "letter": "aeiou"[n % 5]} for n in range(16)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"prompt": f"List {n}", "completion": "Ardton"} for n in range(8)]
    (folder / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def train_arguments(task, out, *more):
    return [
        "train",
        *("--model", str(task / "model"), "--data", str(task / "prompts.jsonl")),
        *("--rewards", f"{task / 'rewards.py'}:letters", f"{task / 'rewards.py'}:brief"),
        *("--weights", "brief=0.2", "--out", str(out), "--max-new-tokens", "8"),
        *("--steps", "2", "--prompts-per-step", "8", "--num-samples", "4"),
        *more,
    ]


def test_a_model_is_trained_evaluated_answered_and_exported(task, tmp_path, capsys):
    out = tmp_path / "out"
    held_out = ("--eval-data", str(task / "prompts.jsonl"), "--eval-every", "1")
    best = ("--best", "eval/reward/letters/mean")
    more = ("--lora-rank", "2", "--learning-rate", "1e-2", "--staleness", "1", *held_out, *best)
    assert main(train_arguments(task, out, *more)) == 0
    assert f"the trained model is in {out / 'model'}" in capsys.readouterr().out.replace("\n", "")
    trained = open_model(out / "model")
    rows = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1] and "eval/reward/letters/mean" in rows[0]
    assert [row["rollout/staleness"] for row in rows] == [0, 1]
    assert rows[1]["rollout/weight_mean"] != 1.0

    exported = ["export", "--model", str(task / "model"), "--run", str(out / "run")]
    assert main([*exported, "--best", "--out", str(tmp_path / "best")]) == 0
    again = open_model(tmp_path / "best")
    np.testing.assert_array_equal(again.params["embedding"], trained.params["embedding"])
    assert main([*exported, "--adapters", "--out", str(tmp_path / "adapters")]) == 0
    assert (tmp_path / "adapters" / "adapter_config.json").is_file()

    # Of the rows and width of the two prompts below, which one program answers as well.
    few, answers = tmp_path / "few.jsonl", tmp_path / "answers.jsonl"
    lines = (task / "prompts.jsonl").read_text().splitlines(keepends=True)
    few.write_text("".join(lines[:8]))
    asked = ["answer", "--model", str(out / "model"), "--max-new-tokens", "4"]
    assert main([*asked, "--data", str(few), "--out", str(answers)]) == 0
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert len(rows) == 8 and all(isinstance(row["answer"], str) for row in rows)
    assert rows[3]["prompt"] == "List 3 films" and rows[3]["letter"] == "o"
    capsys.readouterr()
    assert main([*asked, "List 3 films", "Ardton"]) == 0
    assert capsys.readouterr().out


def test_demonstrations_are_imitated(task, tmp_path):
    arguments = ["imitate", "--model", str(task / "model"), "--data", str(task / "shown.jsonl")]
    arguments += ["--out", str(tmp_path), "--steps", "2", "--batch-size", "8"]
    assert main(arguments) == 0
    open_model(tmp_path / "model")


@pytest.mark.slow
def test_a_dry_run_prints_memory_and_writes_nothing(task, tmp_path, capsys):
    assert main(train_arguments(task, tmp_path / "out", "--dry-run")) == 0
    shown = capsys.readouterr().out
    assert "policy step" in shown and "sampler" in shown and "GiB a device" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--data", "none.jsonl"), "none.jsonl"),
        (("--model", "none"), "no model folder or file"),
        (("--estimator", "gdqo"), "'gdqo' is unknown"),
        (("--weights", "other=1"), "write NAME=NUMBER"),
        (("--adapters",), "--adapters needs --lora-rank"),
        (("--lora-alpha", "3"), "--lora-alpha without --lora-rank"),
        (("--patience", "3"), "need --eval-data"),
        (("--mesh", "8"), "DATAxFSDPxTENSOR"),
    ],
)
def test_a_mistake_is_one_message_and_status_two(task, tmp_path, capsys, more, message):
    assert main(train_arguments(task, tmp_path / "out", *more)) == 2
    shown = capsys.readouterr().err
    assert message in shown.replace("\n", " ") and "Traceback" not in shown
    assert not (tmp_path / "out").exists()
