"""Imitation from a checkpoint of eight devices goes on on another mesh, on one device, and on two
processes, with the same losses and to the same parameters.
"""

import shutil

import elastic_task
import numpy as np
import optax
import pytest


@pytest.mark.slow
def test_a_run_goes_on_on_other_meshes_and_processes_and_ends_the_same(tmp_path, run_two):
    begun = tmp_path / "begun"
    elastic_task.run(begun, (8, 1, 1), steps=elastic_task.BEGUN)
    found, ends = {}, {}
    for name, shape in {"same": (8, 1, 1), "other": (2, 2, 2), "one": (1, 1, 1)}.items():
        shutil.copytree(begun, tmp_path / name)
        ends[name] = elastic_task.run(tmp_path / name, shape)
        found[name] = elastic_task.losses(tmp_path / name)
    shutil.copytree(begun, tmp_path / "two")
    codes, outputs = run_two(tmp_path / "two", worker="elastic_worker.py")
    assert codes == [0, 0], outputs
    found["two"] = elastic_task.losses(tmp_path / "two")
    for index in range(2):
        with np.load(tmp_path / "two" / f"final{index}.npz") as arrays:
            ends[f"process {index} of two"] = [arrays[name] for name in arrays.files]
    assert len(found["same"]) == elastic_task.STEPS - elastic_task.BEGUN
    for name, losses in found.items():
        np.testing.assert_allclose(losses, found["same"], rtol=1e-6, err_msg=name)
    for name, params in ends.items():
        difference = optax.tree.norm(list(map(np.subtract, params, ends["same"])))
        assert difference / optax.tree.norm(ends["same"]) < 1e-5, name
