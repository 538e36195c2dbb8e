"""The code of docs/train_your_own.md and of the README's second example runs as it stands."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from gdpo_jax.models import open_model
from gdpo_jax.training import read_metrics
from tests.tiny_model import save_tiny_model

ROOT = Path(__file__).parent.parent


def blocks(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"), layers=1)


def test_the_readmes_task_is_at_most_22_lines_and_runs(folder, tmp_path):
    task = blocks("README.md")[1]
    assert len([line for line in task.splitlines() if line.strip()]) <= 22
    sizes = {"steps=100": "steps=1", "num_samples=8": "num_samples=2", "tokens=64": "tokens=8"}
    for large, small in sizes.items():
        assert large in task
        task = task.replace(large, small)
    exec(task, {"folder": folder, "out": tmp_path})
    [row] = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert np.isfinite(row["loss"]) and {"reward/correct/mean", "reward/brief/mean"} <= set(row)
    open_model(tmp_path / "model")


def test_the_how_to_runs(folder, tmp_path):
    rows = [{"prompt": f"List {n}", "sum": n} for n in range(12)]
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    space = {"folder": folder, "out": tmp_path, "data": data, "held_out": rows[:3]}
    for block in blocks("docs/train_your_own.md"):
        exec(block, space)
    assert space["best"].params["adapters"]
    open_model(tmp_path / "model")
    assert (tmp_path / "adapters" / "adapter_config.json").is_file()
