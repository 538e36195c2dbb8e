"""SIGKILL in the middle of a run, and the same command again."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gdpo_jax.training import read_metrics
from tests.processes.forked import Forked
from tests.tiny_model import save_tiny_model


@pytest.mark.slow
def test_a_killed_run_started_again_ends_bit_for_bit_like_one_left_alone(tmp_path):
    worker = Path(__file__).with_name("killed_worker.py")
    model = save_tiny_model(tmp_path / "model", layers=1)
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    process = Forked(worker, model, alone, killed, 3)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, errors
    assert not (killed / "final.npz").exists()
    # Rows may reach further than the checkpoint that the second start goes on from.
    assert [row["step"] for row in read_metrics(killed / "metrics.jsonl")] == [0, 1, 2]
    command = [sys.executable, worker, model, killed]
    again = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    for folder in (alone, killed):
        rows = read_metrics(folder / "metrics.jsonl")
        assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    with (
        np.load(killed / "final.npz") as killed_arrays,
        np.load(alone / "final.npz") as alone_arrays,
    ):
        assert len(alone_arrays.files) > 20
        for name in alone_arrays.files:
            np.testing.assert_array_equal(killed_arrays[name], alone_arrays[name])
