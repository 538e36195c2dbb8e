"""A run around its steps: what it stores, what stops it, and who may be in its folder."""

import contextlib
import dataclasses
import errno
import os
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
import toy

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import Metrics
from gdpo_jax.rollouts import Rollout
from gdpo_jax.training import Checkpoints, make_optimizer, read_metrics
from gdpo_jax.training.lock import only_run_in
from gdpo_jax.training.run import NonFiniteLossError, Pending, Run
from gdpo_jax.training.signals import STOPPED

METRICS = Metrics(sums={"loss": 0.5, "grad_norm": 1.0, "tokens": 8.0}, minima={"healthy": 1.0})


@pytest.fixture(scope="module")
def state():
    optimizer = make_optimizer(toy.OPTIMIZER)
    return toy.fresh_state(toy.mesh_of(1), optimizer)


def open_run(workdir, state, **changes):
    records = toy.records_for(toy.mesh_of(1), 8)
    config = toy.sft_config(**changes)
    about = {"identity": {}, "columns": ()}
    return Run("run", workdir, config, toy.POLICY, state, records, **about)


def steps_stored(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def take_steps(run, state, fail, *, until=4):
    """The loop of a run without its arithmetic; `fail(step)` is called where records are read."""
    for step in range(run.start_step, until):
        position = run._records.get_state()
        with run.keeping(step, state, position):
            next(run._records)
            run.settle(state)
            fail(step)
        run.dispatched(Pending(step, position, [METRICS]))
        run.save_if_due(step + 1, state)


def fail_in(step, error):
    def fail(now):
        if now == step:
            raise error

    return fail


@pytest.mark.parametrize("left_by_an_earlier_version", [False, True])
def test_a_failure_before_the_first_update_is_told_each_time_and_can_be_mended(
    tmp_path, state, left_by_an_earlier_version
):
    if left_by_an_earlier_version:
        checkpoints = Checkpoints(tmp_path / "checkpoints", config={"run": "another"})
        checkpoints.save(0, state, {"records": {}, "tokens_seen": 0.0})
        checkpoints.close()
    for _ in range(3):
        with pytest.raises(OSError, match="judge is away"), open_run(tmp_path, state) as run:
            take_steps(run, state, fail_in(0, OSError("judge is away")))
    with open_run(tmp_path, state, prompt_buckets=(8,)) as mended:
        take_steps(mended, state, fail_in(9, None), until=2)
    assert steps_stored(tmp_path)[-1] == 2
    with pytest.raises(UserError, match="prompt_buckets"):
        open_run(tmp_path, state)


def test_a_loss_that_is_not_finite_in_the_first_step_is_told_each_time(tmp_path, state):
    for _ in range(2):
        with (
            pytest.raises(NonFiniteLossError, match=r"step 0: .*; .* nothing was learned"),
            open_run(tmp_path, state) as run,
        ):
            run.dispatched(Pending(0, {}, [dataclasses.replace(METRICS, minima={"healthy": 0.0})]))
            take_steps(run, state, fail_in(9, None))
    assert steps_stored(tmp_path) == []


def test_the_rollout_of_a_step_comes_back_with_the_state_before_it(tmp_path, state):
    tokens = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    rollout = Rollout(
        prompts=tokens[:, 0],
        prompt_lengths=np.ones(2, np.int32),
        completions=tokens,
        mask=tokens % 2 == 0,
        finished=tokens[..., 0] > 3,
        log_probs=-tokens.astype(np.float32) / 7,
    )
    broken = dataclasses.replace(METRICS, minima={"healthy": 0.0})
    with pytest.raises(NonFiniteLossError), open_run(tmp_path, state) as run:
        first = run._records.get_state()
        run.dispatched(Pending(0, first, [METRICS]))
        next(run._records)
        before = run._records.get_state()
        run.settle(state)
        run.dispatched(Pending(1, before, [broken], rollout=rollout))
        next(run._records)
        run.settle(state)
    with open_run(tmp_path, state) as run:
        assert run.start_step == 1 and run._records.get_state() == before
        toy.assert_same(run.stored_rollout(toy.mesh_of(1)), rollout)
        take_steps(run, state, fail_in(9, None), until=2)
    with open_run(tmp_path, state) as run:
        assert run.start_step == 2 and run.stored_rollout(toy.mesh_of(1)) is None


def test_a_checkpoint_that_cannot_be_written_does_not_hide_the_error_before(
    tmp_path, state, monkeypatch, capsys
):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(Checkpoints, "save", full)
    error = ValueError("judge is away")
    with pytest.raises(ValueError, match="judge is away"), open_run(tmp_path, state) as run:
        take_steps(run, state, fail_in(1, error))
    assert "state before step 1 could not be stored: OSError('no space left')" in str(
        error.__notes__
    )
    assert "the state before step 1 is not stored: no space left" in capsys.readouterr().err


def test_notes_come_back_bit_for_bit(tmp_path, state):
    notes = {"best": 0.1 + 0.2, "waited": 3, "names": ["a", None], "by": {"x": 1e-310}}
    with open_run(tmp_path, state) as run:
        assert run.notes == {}
        run.notes |= notes
        take_steps(run, state, fail_in(9, None), until=2)
        run.notes["waited"] = 4  # after the checkpoint
    with open_run(tmp_path, state) as run:
        assert run.notes == notes
        assert run.start_step == 2


def test_records_that_cannot_take_the_position_are_one_error(tmp_path, state):
    with open_run(tmp_path, state) as run:
        take_steps(run, state, fail_in(9, None), until=2)

    class Others:
        def set_state(self, state):
            raise KeyError("shard")

    config = toy.sft_config()
    with pytest.raises(UserError, match="checkpoint 2 holds a position that these records cannot"):
        Run("run", tmp_path, config, toy.POLICY, state, Others(), identity={}, columns=())


def test_two_runs_do_not_share_a_work_directory(tmp_path, state):
    with open_run(tmp_path, state):
        message = rf"another run is under way in .* \(process {os.getpid()} on "
        with pytest.raises(UserError, match=message):
            open_run(tmp_path, state)
        with open_run(tmp_path / "another", state):
            pass
    with open_run(tmp_path, state):
        pass


def test_readers_of_a_finished_run_wait_for_each_other(tmp_path, state):
    config = toy.sft_config()
    with open_run(tmp_path, state) as run:
        take_steps(run, state, lambda step: None, until=config.steps)
    with contextlib.ExitStack() as reader:
        reader.enter_context(only_run_in(tmp_path))
        threading.Timer(0.3, reader.close).start()
        with open_run(tmp_path, state) as run:
            assert run.start_step == config.steps
    unfinished = tmp_path / "unfinished"
    with only_run_in(unfinished), pytest.raises(UserError, match="another run is under way"):
        open_run(unfinished, state)


def test_where_files_cannot_be_locked_a_warning_says_so(tmp_path, state, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with (
        pytest.warns(UserWarning, match="run.lock cannot be locked .*not supported"),
        open_run(tmp_path, state),
    ):
        pass


@pytest.mark.parametrize("name", ["file", "file/below", "\0", "a" * 300])
def test_a_work_directory_that_cannot_be_is_one_error(tmp_path, state, name):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be a work directory"):
        open_run(tmp_path / name, state)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_stores_the_state_before_the_step(tmp_path, state, number, error):
    before = signal.getsignal(number)
    with pytest.raises(error) as caught, open_run(tmp_path, state, checkpoint_every=100) as run:
        take_steps(run, state, lambda step: step < 3 or signal.raise_signal(number))
    assert number == signal.SIGINT or caught.value.code == STOPPED
    assert steps_stored(tmp_path) == [3]
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1, 2]
    assert signal.getsignal(number) is before
    with open_run(tmp_path, state) as run:
        assert run.start_step == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(5)])
def test_other_ways_to_leave_store_it_as_well(tmp_path, state, error):
    with pytest.raises(type(error)), open_run(tmp_path, state, checkpoint_every=100) as run:
        take_steps(run, state, fail_in(3, error))
    assert steps_stored(tmp_path) == [3]


def test_a_signal_while_a_step_is_reported_or_dispatched_waits_for_the_next_one(tmp_path, state):
    def reported(metrics):
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit), open_run(tmp_path, state, checkpoint_every=100) as run:
        position = run._records.get_state()
        run.dispatched(Pending(0, position, [METRICS], then=reported))
        with run.keeping(1, state, position):
            run.settle(state)
            pytest.fail("went on")
    assert steps_stored(tmp_path) == [1]
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [0]
    # In the last step: all is stored, and whatever comes after the run is not begun.
    with pytest.raises(SystemExit), open_run(tmp_path / "last", state) as run:
        signal.raise_signal(signal.SIGTERM)


def test_a_run_in_another_thread_leaves_the_signals_alone(tmp_path, state):
    before, during = signal.getsignal(signal.SIGTERM), []

    def work():
        with open_run(tmp_path, state):
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [before]


def test_a_second_signal_ends_the_process_at_once():
    code = """
import os, signal
from gdpo_jax.training.signals import StopSignals
signals = StopSignals()
signals.open()
os.kill(os.getpid(), signal.SIGTERM)
assert signals.received == signal.SIGTERM
os.kill(os.getpid(), signal.SIGTERM)
print("still here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")
    assert done.stderr.strip().startswith("SIGTERM: the run stores its state and stops")


def test_the_state_of_a_stopped_run_is_the_one_it_had(tmp_path, state):
    with pytest.raises(SystemExit), open_run(tmp_path, state) as run:
        take_steps(run, state, lambda step: step < 1 or signal.raise_signal(signal.SIGTERM))
    with open_run(tmp_path, state) as run:
        restored = run.state.params
    jax.tree.map(np.testing.assert_array_equal, toy.as_numpy(restored), toy.as_numpy(state.params))
