"""`optimize` and `answer` over two processes do what they do in one."""

import jax
import numpy as np
import optax
import pytest
import recipe_task

from gdpo_jax.training import read_metrics
from tests.tiny_model import save_tiny_model


@pytest.mark.slow
def test_two_processes_train_and_answer_like_one(tmp_path, run_two):
    save_tiny_model(tmp_path / "model", layers=1)
    codes, outputs = run_two(tmp_path, worker="recipe_worker.py", fresh=True)
    assert codes == [0, 0], outputs

    state, texts = recipe_task.run(tmp_path / "model", tmp_path / "one")
    one = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
    for index in range(2):
        assert f"answers {texts}" in outputs[index]
        with np.load(tmp_path / f"final{index}.npz") as arrays:
            two = [arrays[name] for name in arrays.files]
        assert optax.tree.norm(list(map(np.subtract, one, two))) / optax.tree.norm(one) < 1e-5
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "run")]
    for name in ("reward/letters/mean", "reward/brief/mean"):
        np.testing.assert_allclose(*[[row[name] for row in run] for run in rows], rtol=1e-6)
    names = [name for name in rows[0][1] if name.startswith("eval/")]
    assert len(names) == 6
    for name in names:
        np.testing.assert_allclose(*[run[1][name] for run in rows], rtol=1e-6)
