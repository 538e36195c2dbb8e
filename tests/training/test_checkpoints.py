"""Checkpoints: exact return, other configurations, damage."""

import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import toy

from gdpo_jax.errors import UserError
from gdpo_jax.training import Checkpoints, create_state, make_optimizer

OPTIMIZER = make_optimizer(toy.OPTIMIZER)
CONFIG = {"run": {"seed": 0, "buckets": (4, 8)}, "policy": {"d_model": 16}}
POSITION = {"next_index": 5}


def fresh_state(mesh, seed=0):
    weights = {"weights": np.array([1.0, 0.5], np.float32)}
    return create_state(
        toy.POLICY, OPTIMIZER, key=jax.random.key(seed), mesh=mesh, advantage_state=weights
    )


@pytest.fixture(scope="module")
def mesh():
    return toy.mesh_of(8, fsdp=4)


@pytest.fixture(scope="module")
def stored(mesh, tmp_path_factory):
    """A folder with checkpoints 2 and 4, and the state of the latter."""
    folder = tmp_path_factory.mktemp("stored")
    first, second = fresh_state(mesh, seed=1), fresh_state(mesh, seed=2)
    checkpoints = Checkpoints(folder, config=CONFIG)
    checkpoints.save(2, first, {"next_index": 2})
    checkpoints.save(4, second, POSITION)
    checkpoints.close()
    return folder, second


def key_free(state):
    rest = (state.step, state.healthy, state.params, state.opt_state, state.advantage_state)
    return jax.tree.map(np.asarray, (*rest, jax.random.key_data(state.key)))


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, key_free(left), key_free(right))


def listing(folder: Path):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_everything_comes_back_with_its_sharding(mesh, stored):
    folder, state = stored
    step, restored, position = Checkpoints(folder, config=CONFIG).restore(fresh_state(mesh))
    assert (step, position) == (4, POSITION)
    assert_same(restored, state)
    assert jax.tree.map(jax.typeof, restored) == jax.tree.map(jax.typeof, state)
    assert jax.tree.leaves(jax.tree.map(lambda a, b: a.sharding == b.sharding, restored, state))


def test_another_mesh_may_read_it(stored):
    folder, state = stored
    one = toy.mesh_of(1)
    _, restored, _ = Checkpoints(folder, config=CONFIG).restore(fresh_state(one))
    assert_same(restored, state)
    assert {leaf.sharding.mesh.size for leaf in jax.tree.leaves(restored.params)} == {1}


def test_parameters_alone_can_be_read_whatever_the_configuration(mesh, stored):
    folder, state = stored
    params = Checkpoints(folder, config={}).restore_params(fresh_state(mesh).params)
    jax.tree.map(np.testing.assert_array_equal, toy.as_numpy(params), toy.as_numpy(state.params))


def test_nothing_stored_is_no_error(mesh, tmp_path):
    checkpoints = Checkpoints(tmp_path / "new", config=CONFIG)
    assert checkpoints.restore(fresh_state(mesh)) is None
    with pytest.raises(UserError, match="there is no checkpoint in"):
        checkpoints.restore_params({})


def test_only_the_newest_are_kept(mesh, tmp_path):
    state = fresh_state(mesh)
    checkpoints = Checkpoints(tmp_path, config=CONFIG, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state, POSITION)
        checkpoints.wait()
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["2", "3"]


def test_another_configuration_is_refused_field_by_field_and_nothing_is_touched(mesh, stored):
    folder, _ = stored
    before = listing(folder)
    other = {"run": {"seed": 1, "buckets": (4, 8)}, "policy": {}, "data": "b"}
    with pytest.raises(UserError) as caught:
        Checkpoints(folder, config=other).restore(fresh_state(mesh))
    message = str(caught.value)
    assert "run.seed: 0 (stored), 1 (now)" in message
    assert "policy.d_model: 16 (stored), 'absent' (now)" in message
    assert "data: 'absent' (stored), 'b' (now)" in message
    assert "buckets" not in message
    assert listing(folder) == before


def test_damage_is_never_read_as_a_state(mesh, stored, tmp_path):
    """Each file of the newest checkpoint cut in half: an error with the folder, or no effect."""
    folder, state = stored
    like = fresh_state(mesh)
    newest = folder / "4"
    files = sorted(
        path.relative_to(folder)
        for path in newest.rglob("*")
        if path.stat().st_size > 0 and path.is_file()
    )
    refused = 0
    for index, name in enumerate(files):
        damaged = tmp_path / str(index)
        shutil.copytree(folder, damaged)
        os.truncate(damaged / name, (damaged / name).stat().st_size // 2)
        try:
            checkpoints = Checkpoints(damaged, config=CONFIG)
            step, restored, _ = checkpoints.restore(like)
        except UserError as error:
            assert str(damaged / "4") in str(error) and "Delete that folder" in str(error)
            refused += 1
        else:
            assert step == 4, name
            assert_same(restored, state)
    assert refused >= 3
