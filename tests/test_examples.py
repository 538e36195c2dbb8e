"""The scripts in examples/ run, and the one that trains from nothing learns."""

import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from gdpo_jax.models import open_model
from gdpo_jax.training import MeshConfig, make_mesh, read_metrics
from tests.tiny_model import save_tiny_model

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_arithmetic_learns_both_rewards(tmp_path, monkeypatch):
    # As on a user's CPU: programs for one device compile sooner. The others run on all.
    one = make_mesh(MeshConfig(), jax.devices()[:1])
    monkeypatch.setattr("gdpo_jax.models.make_mesh", lambda config: one)
    before, after = example("arithmetic").main(tmp_path, imitation_steps=100, steps=20)
    assert after > before
    rows = read_metrics(tmp_path / "optimize" / "metrics.jsonl")
    assert rows[-1]["completions/length_mean"] < rows[0]["completions/length_mean"]
    open_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["from_trl", "custom_estimator"])
def test_the_others_train_a_model_folder(name, tmp_path):
    folder = save_tiny_model(tmp_path / "start")
    example(name).main(folder, tmp_path, steps=1)
    [row] = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert np.isfinite(row["loss"]) and row["update_norm"] > 0
    open_model(tmp_path / "model")


def test_every_example_is_run_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "arithmetic",
        "from_trl",
        "custom_estimator",
    }
