"""Two processes with four devices each do what one process with eight does, or stop together."""

import jax
import numpy as np
import optax
import pytest
import toy

from gdpo_jax.training import read_metrics


@pytest.mark.slow
def test_two_processes_stop_together_and_then_end_like_one(tmp_path, run_two):
    codes, outputs = run_two(tmp_path / "two", "1")
    assert codes == [3, 3], outputs
    assert "UserError: process 1 stopped: RewardError: reward 'brevity' raised" in outputs[0]
    assert "RewardError: reward 'brevity' raised OSError: judge is away" in outputs[1]
    assert (tmp_path / "two" / "checkpoints" / "1").is_dir()

    codes, outputs = run_two(tmp_path / "two")
    assert codes == [0, 0], outputs
    # Alone the first process would take two bins a row.
    assert all("packed (8, 1, 8) (8, 1, 4, 6)" in output for output in outputs), outputs
    assert [row["step"] for row in read_metrics(tmp_path / "two" / "metrics.jsonl")] == [0, 1, 2]

    config = toy.config(**toy.AHEAD)
    mesh = toy.mesh_of(8, data=4, fsdp=2)
    evaluation = toy.evaluation_on(mesh)
    optimised = toy.run(tmp_path / "one", mesh, config=config, evaluation=evaluation).params
    one = jax.tree.leaves(toy.as_numpy(optimised))
    for index in range(2):
        with np.load(tmp_path / "two" / f"final{index}.npz") as arrays:
            two = [arrays[name] for name in arrays.files]
        difference = optax.tree.norm(list(map(np.subtract, one, two)))
        assert difference / optax.tree.norm(one) < 1e-5
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    for name in ("reward/cs/mean", "reward/brevity/mean", "completions/length_mean"):
        np.testing.assert_allclose(*[[row[name] for row in run] for run in rows], rtol=1e-6)
    # Eleven records over two processes, of which one has none left in the second batch.
    found = [{name: run[1][name] for name in run[1] if name.startswith("eval/")} for run in rows]
    assert found[0] == pytest.approx(found[1], rel=1e-6) and found[0]
