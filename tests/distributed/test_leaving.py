"""Two processes that were started differently, or of which one goes."""

import signal

import pytest

from gdpo_jax.commands.running import LOST, WRONG
from gdpo_jax.training.signals import STOPPED

WORKER = "open_worker.py"


def steps_stored(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.mark.slow
def test_processes_with_different_settings_stop_with_the_list_of_fields(tmp_path, run_two):
    codes, outputs = run_two(tmp_path, "settings", worker=WORKER)
    assert codes == [WRONG, WRONG], outputs
    for output in outputs:
        assert "the processes were started with different settings" in output
        # The options of the command, before anything is done.
        assert 'options.--seed: "0" (process 0), "1" (process 1)' in output
        assert "process-id" not in output and "options.--steps" not in output
        assert "run.steps: 6 (process 0), 7 (process 1)" in output
        assert "run.chunk: null (process 0), 2 (process 1)" in output
        assert 'rewards: ["a", "b"] (process 0), ["a"] (process 1)' in output
        assert "records.seed: 3 (process 0), 4 (process 1)" in output
        assert "batch_size" not in output
    codes, outputs = run_two(tmp_path, "key", worker=WORKER)
    assert codes == [WRONG, WRONG], outputs
    assert all("digests of the first state.random key: " in output for output in outputs), outputs


@pytest.mark.slow
def test_a_process_does_not_wait_for_one_that_is_gone(tmp_path, run_two):
    codes, outputs = run_two(tmp_path, "killed", worker=WORKER)
    # 1 where a thread of the checkpoint under way had to be left behind; JAX's own time-outs would
    # end the process with SIGABRT.
    assert codes[0] in (1, LOST) and codes[1] == -signal.SIGKILL, outputs
    message = "error: process 1 is gone; start all 2 processes again; the run goes on "
    assert message in outputs[0], outputs
    codes, outputs = run_two(tmp_path, "failing", worker=WORKER, fresh=True)
    assert codes[0] in (1, LOST) and codes[1] == 1, outputs
    message = "error: process 1 stopped: OSError: no space left; start all 2 processes again; the"
    assert message in outputs[0], outputs
    assert "OSError: no space left" in outputs[1]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "left"), [("coordinator", 1), ("frozen", 0)])
def test_where_jax_ends_a_process_one_message_says_so(tmp_path, run_two, what, left):
    codes, outputs = run_two(tmp_path, what, worker=WORKER, first=left)
    assert codes[left] in (-signal.SIGABRT, 1, LOST) and codes[1 - left] == -signal.SIGKILL, outputs
    [message] = [line for line in outputs[left].splitlines() if line.startswith("error: ")]
    assert "start all" in message.lower()
    assert "stack trace" not in outputs[left] and "coordination_service" not in outputs[left]


@pytest.mark.slow
def test_a_process_that_is_told_to_stop_stops_all_with_a_checkpoint(tmp_path, run_two):
    codes, outputs = run_two(tmp_path, "stopped", worker=WORKER)
    assert codes == [STOPPED, STOPPED], outputs
    assert steps_stored(tmp_path) == [2, 3]
    codes, outputs = run_two(tmp_path, "nothing", worker=WORKER)
    assert codes == [0, 0], outputs
    assert steps_stored(tmp_path) == [4, 6]


@pytest.mark.slow
def test_a_reward_that_hangs_on_one_process_stops_all_with_a_checkpoint(tmp_path, run_two):
    codes, outputs = run_two(tmp_path, "hanging", worker=WORKER)
    assert codes == [WRONG, WRONG], outputs
    said = "reward 'reward' did not answer within 2 seconds"
    assert f"error: process 1 stopped: RewardError: {said}" in outputs[0]
    assert f"error: {said}" in outputs[1]
    assert all("on sample 0 of 1, whose text is 'a text'" in output for output in outputs)
    assert steps_stored(tmp_path) == [2]


@pytest.mark.slow
def test_a_folder_for_each_process_is_refused(tmp_path, run_two):
    codes, outputs = run_two(tmp_path, "folders", worker=WORKER)
    assert codes == [WRONG, WRONG], outputs
    for output in outputs:
        assert "host-1 on " in output and "(process 1) is not the folder of process 0" in output
    assert not list((tmp_path / "host-0").glob(".shared-*"))
    assert not (tmp_path / "host-1" / "checkpoints").exists()
