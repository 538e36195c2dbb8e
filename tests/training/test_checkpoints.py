"""Checkpoints: exact return, other configurations, damage."""

import json
import os
import re
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
import toy

from gdpo_jax.errors import UserError
from gdpo_jax.training import Checkpoints, make_optimizer, replicated
from gdpo_jax.training.integrity import check_files

OPTIMIZER = make_optimizer(toy.OPTIMIZER)
CONFIG = {"run": {"seed": 0, "buckets": (4, 8)}, "policy": {"d_model": 16}}
POSITION = {"next_index": 5}


def fresh_state(mesh, seed=0):
    weights = {"weights": np.array([1.0, 0.5], np.float32)}
    return toy.fresh_state(mesh, OPTIMIZER, seed=seed, advantage_state=weights)


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


def test_small_arrays_are_not_cut_among_the_devices_that_hold_them(tmp_path, caplog):
    """Each piece would be a program of its own: 64 of them here, before anything is written."""
    state = fresh_state(toy.mesh_of(8), seed=5)
    checkpoints = Checkpoints(tmp_path, config=CONFIG)
    with jax.log_compiles():
        checkpoints.save(2, state, POSITION)
        checkpoints.close()
    compiled = set(re.findall(r"Finished XLA compilation of (\S+)", caplog.text))
    assert compiled <= {"jit(_bit_sums)"}
    _, restored, _ = Checkpoints(tmp_path, config=CONFIG).restore(fresh_state(toy.mesh_of(8)))
    assert_same(restored, state)


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


def goes_back(folder, mesh, reason):
    """The newest checkpoint is damaged: the one before is restored, and the warning names both."""
    checkpoints = Checkpoints(folder, config=CONFIG)
    with pytest.warns(UserWarning) as caught:
        step, restored, position = checkpoints.restore(fresh_state(mesh))
    [warning] = [str(one.message) for one in caught if "damaged" in str(one.message)]
    aside = folder.with_name(f"{folder.name}-damaged")
    assert f"checkpoint {folder}/" in warning and f"moved to {aside}/" in warning
    assert warning.endswith(f"the run goes on from checkpoint {folder / str(step)}")
    assert re.search(reason, warning), warning
    return checkpoints, step, restored, position


def test_damage_is_never_read_as_a_state(mesh, stored, tmp_path):
    """Each file of the newest checkpoint cut in half: the state before it, or no effect."""
    folder, state = stored
    before = fresh_state(mesh, seed=1)
    newest = folder / "4"
    files = sorted(
        path.relative_to(folder)
        for path in newest.rglob("*")
        if path.stat().st_size > 0 and path.is_file()
    )
    went_back = 0
    for index, name in enumerate(files):
        damaged = tmp_path / str(index)
        shutil.copytree(folder, damaged)
        os.truncate(damaged / name, (damaged / name).stat().st_size // 2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step, restored, _ = Checkpoints(damaged, config=CONFIG).restore(fresh_state(mesh))
        if any(str(damaged / "4") in str(one.message) for one in caught):
            assert step == 2, name
            assert_same(restored, before)
            went_back += 1
        else:
            assert step == 4, name
            assert_same(restored, state)
    assert went_back >= 3


def test_a_run_goes_on_from_the_newest_good_one_and_stores_again(mesh, stored, tmp_path):
    folder = copied(stored, tmp_path)
    path = max((folder / "4" / "params").rglob("*"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    checkpoints, step, restored, position = goes_back(folder, mesh, f"{path.name} is [0-9]+ bytes")
    assert (step, position) == (2, {"next_index": 2})
    assert_same(restored, fresh_state(mesh, seed=1))
    checkpoints.save(4, stored[1], POSITION)
    checkpoints.close()
    assert sorted(path.name for path in folder.iterdir() if path.name.isdigit()) == ["2", "4"]
    assert [path.name for path in (tmp_path / "copy-damaged").iterdir()] == ["4"]
    # Damaged once more: both are kept.
    (folder / "4" / "_CHECKPOINT_METADATA").unlink()
    goes_back(folder, mesh, "_CHECKPOINT_METADATA is missing")
    kept = sorted(path.name for path in (tmp_path / "copy-damaged").iterdir())
    assert kept == ["4", "4-2"]


def test_where_none_is_good_nothing_is_touched(mesh, stored, tmp_path):
    folder = copied(stored, tmp_path)
    for step in ("2", "4"):
        (folder / step / "_CHECKPOINT_METADATA").write_text("{")
    before = listing(folder)
    with pytest.raises(UserError, match=r"checkpoint .*4 is damaged .*Delete that folder"):
        Checkpoints(folder, config=CONFIG).restore(fresh_state(mesh))
    assert listing(folder) == before and not (tmp_path / "copy-damaged").exists()


def test_a_damaged_one_that_cannot_be_moved_is_an_error(mesh, stored, tmp_path):
    folder = copied(stored, tmp_path)
    (folder / "4" / "_CHECKPOINT_METADATA").unlink()
    (tmp_path / "copy-damaged").touch()
    with pytest.raises(UserError, match=r"4 is damaged .* cannot be moved to .*from checkpoint 2"):
        Checkpoints(folder, config=CONFIG).restore(fresh_state(mesh))


def copied(stored, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(stored[0], folder)
    return folder


def test_every_flipped_bit_is_found_and_named(stored, tmp_path):
    newest = copied(stored, tmp_path) / "4"
    generator = np.random.default_rng(0)
    files = [path for path in newest.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        whole = path.read_bytes()
        for place in generator.integers(len(whole), size=8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(generator.integers(8))
            path.write_bytes(damaged)
            if path.name == "files.json":
                # The note guards itself: it condemns nothing.
                check_files(newest)
            else:
                with pytest.raises(UserError, match=f"{path.name} is changed"):
                    check_files(newest)
        path.write_bytes(whole)
    check_files(newest)


def test_changed_numbers_are_not_loaded(mesh, stored, tmp_path):
    folder = copied(stored, tmp_path)
    path = max((folder / "4" / "params").rglob("*"), key=lambda path: path.stat().st_size)
    values = bytearray(path.read_bytes())
    values[len(values) // 2] ^= 1
    path.write_bytes(values)
    with pytest.raises(UserError, match=f"{path.name} is changed"):
        Checkpoints(folder, config={}).restore_params(fresh_state(mesh).params)
    goes_back(folder, mesh, rf"{path.name} is changed\)")


def test_without_a_note_changed_arrays_are_found_by_their_digest(mesh, tmp_path):
    """As SIGKILL between a checkpoint and its note leaves it."""
    # Large enough to lie outside of the nodes of the tree, which have sums of their own.
    table = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    states = {
        step: fresh_state(mesh).replace(params={"table": table + np.float32(step)})
        for step in (2, 4)
    }
    states = jax.device_put(states, replicated(mesh))
    checkpoints = Checkpoints(tmp_path / "whole", config=CONFIG)
    for step, state in states.items():
        checkpoints.save(step, state, POSITION)
    checkpoints.close()
    for part in (1, 2, 3):
        folder = tmp_path / str(part)
        shutil.copytree(tmp_path / "whole", folder)
        (folder / "4" / "files.json").unlink()
        path = max((folder / "4" / "params").rglob("d/*"), key=lambda path: path.stat().st_size)
        values = bytearray(path.read_bytes())
        values[part * len(values) // 4] ^= 1
        path.write_bytes(values)
        with pytest.warns(UserWarning, match=r"is damaged \(the arrays in params are changed\)"):
            step, restored, _ = Checkpoints(folder, config=CONFIG).restore(states[4])
        assert step == 2
        assert_same(restored, states[2])


def test_without_a_note_a_changed_position_is_found(mesh, stored, tmp_path):
    folder = copied(stored, tmp_path)
    (folder / "4" / "files.json").unlink()
    path = folder / "4" / "_CHECKPOINT_METADATA"
    path.write_text(path.read_text().replace('"next_index": 5', '"next_index": 6'))
    goes_back(folder, mesh, r"\(_CHECKPOINT_METADATA is changed\)")


@pytest.mark.parametrize("text", ["", "null", "[]", "5", '""', '{"crc32": 1, "fil', "{}", "\xff"])
@pytest.mark.parametrize("name", ["files.json", "sizes.json"])
def test_a_damaged_note_condemns_no_checkpoint(stored, tmp_path, name, text):
    newest = copied(stored, tmp_path) / "4"
    (newest / "files.json").unlink()
    (newest / name).write_bytes(text.encode("latin-1"))
    check_files(newest)


def test_the_note_of_an_earlier_version_holds_sizes(stored, tmp_path):
    newest = copied(stored, tmp_path) / "4"
    (newest / "files.json").unlink()
    (newest / "sizes.json").write_text('{"_CHECKPOINT_METADATA": 3}')
    with pytest.raises(UserError, match=r"_CHECKPOINT_METADATA is \d+ bytes instead of 3"):
        check_files(newest)
    size = (newest / "_CHECKPOINT_METADATA").stat().st_size
    (newest / "sizes.json").write_text(json.dumps({"_CHECKPOINT_METADATA": size}))
    check_files(newest)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda about: about["custom_metadata"].pop("config"), "holds no config"),
        (lambda about: about["custom_metadata"].pop("position"), "holds no position"),
        (lambda about: about.update(custom_metadata=None), "holds no config"),
        (lambda about: about.update(custom_metadata=[1]), r"custom_metadata in .* is \[1\]"),
        (lambda about: about.update(commit_timestamp_nsecs="x"), "timestamp_nsecs in .* is 'x'"),
        (lambda about: about.clear(), "holds no config"),
        ("", "holds no config"),
        ("{", "holds no config"),
        ("[" * 9999, "RecursionError"),
        (b"\xff" * 99, "UnicodeDecodeError"),
        ("[]", "is no JSON object"),
        ("5", "is no JSON object"),
        (None, "holds no config"),
    ],
)
def test_damaged_metadata_is_one_error(mesh, stored, tmp_path, change, reason):
    folder = copied(stored, tmp_path)
    path = folder / "4" / "_CHECKPOINT_METADATA"
    (folder / "4" / "files.json").unlink()  # as if the process had ended before it was written
    if callable(change):
        about = json.loads(path.read_text())
        change(about)
        path.write_text(json.dumps(about))
    elif change is None:
        path.unlink()
    else:
        path.write_bytes(change if isinstance(change, bytes) else change.encode())
    _, step, restored, _ = goes_back(folder, mesh, reason)
    assert step == 2
    assert_same(restored, fresh_state(mesh, seed=1))


def test_metadata_changed_within_its_size_is_damage_not_another_configuration(
    mesh, stored, tmp_path
):
    folder = copied(stored, tmp_path)
    path = folder / "4" / "_CHECKPOINT_METADATA"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    goes_back(folder, mesh, "_CHECKPOINT_METADATA is changed")


@pytest.mark.parametrize("name", ["6", "1", "9" * 30])
def test_an_empty_folder_named_by_a_number_is_moved(mesh, stored, tmp_path, name):
    folder = copied(stored, tmp_path)
    (folder / name).mkdir()
    _, step, restored, _ = goes_back(folder, mesh, rf"checkpoint .*/{name} is damaged")
    assert step == 4
    assert_same(restored, stored[1])


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(UserError, match="checkpoints cannot hold checkpoints"):
        Checkpoints(tmp_path / "checkpoints", config=CONFIG)


@pytest.mark.parametrize(
    ("change", "whose"),
    [
        ({"advantage_state": {"others": np.zeros(3, np.float32)}}, "estimator"),
        ({"advantage_state": {"weights": np.zeros(3, np.float32)}}, "estimator"),
        ({"advantage_state": ()}, "estimator"),
        ({"opt_state": (np.zeros((), np.int32),)}, "optimizer"),
        ({"params": {"embedding": np.zeros((2, 2), np.float32)}}, "policy"),
    ],
)
def test_a_state_of_another_form_says_whose_it_is(mesh, stored, change, whose):
    folder, _ = stored
    change = jax.device_put(change, replicated(mesh))
    with pytest.raises(UserError) as caught:
        Checkpoints(folder, config=CONFIG).restore(fresh_state(mesh).replace(**change))
    message = str(caught.value)
    assert f"holds the state of another {whose}; nothing was changed" in message
    assert "damaged" not in message and "elete" not in message


def test_a_step_stored_before_is_stored_no_second_time(mesh, tmp_path):
    state = fresh_state(mesh)
    for _ in range(2):
        checkpoints = Checkpoints(tmp_path, config=CONFIG)
        checkpoints.save(0, state, POSITION)
        checkpoints.save(0, state, POSITION)
        checkpoints.close()
        assert checkpoints.latest_step == 0


def test_what_orbax_cannot_list_is_one_error(tmp_path, monkeypatch):
    def odd(*_, **__):
        raise ValueError("odd name")

    monkeypatch.setattr("orbax.checkpoint.v1.training.Checkpointer", odd)
    with pytest.raises(UserError, match=r"checkpoints in .* cannot be listed \(ValueError: odd"):
        Checkpoints(tmp_path, config=CONFIG).restore(())
