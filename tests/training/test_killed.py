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
    model = save_tiny_model(tmp_path / "model")

    def start(folder, *die_in):
        process = Forked(worker, model, tmp_path / folder, *die_in)
        _, errors = process.communicate(timeout=300)
        return process.returncode, errors

    def start_anew(folder):
        command = [sys.executable, worker, model, tmp_path / folder]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        return done.returncode, done.stderr

    code, errors = start("killed", 3)
    assert code == -signal.SIGKILL, errors
    assert not (tmp_path / "killed" / "final.npz").exists()
    # Rows may reach further than the checkpoint that the second start goes on from.
    assert [row["step"] for row in read_metrics(tmp_path / "killed" / "metrics.jsonl")] == [0, 1, 2]
    for folder, begin in (("killed", start_anew), ("alone", start)):
        code, errors = begin(folder)
        assert code == 0, errors
        rows = read_metrics(tmp_path / folder / "metrics.jsonl")
        assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    with (
        np.load(tmp_path / "killed" / "final.npz") as killed_arrays,
        np.load(tmp_path / "alone" / "final.npz") as alone_arrays,
    ):
        assert len(alone_arrays.files) > 20
        for name in alone_arrays.files:
            np.testing.assert_array_equal(killed_arrays[name], alone_arrays[name])
