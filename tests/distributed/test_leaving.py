"""Two processes that were started differently, or of which one goes."""

import signal

import pytest

WORKER = "open_worker.py"


def steps_stored(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.mark.slow
def test_processes_with_different_settings_stop_with_the_list_of_fields(tmp_path, run_two):
    codes, outputs = run_two(tmp_path, "settings", worker=WORKER)
    assert codes == [3, 3], outputs
    for output in outputs:
        assert "the processes were started with different settings" in output
        assert "run.steps: 6 (process 0), 7 (process 1)" in output
        assert "run.chunk: null (process 0), 2 (process 1)" in output
        assert 'rewards: ["a", "b"] (process 0), ["a"] (process 1)' in output
        assert "records.seed: 3 (process 0), 4 (process 1)" in output
        assert "batch_size" not in output
    codes, outputs = run_two(tmp_path, "key", worker=WORKER)
    assert codes == [3, 3], outputs
    assert all("digests of the first state.random key: " in output for output in outputs), outputs


@pytest.mark.slow
def test_a_process_does_not_wait_for_one_that_is_gone(tmp_path, run_two):
    codes, outputs = run_two(tmp_path, "killed", worker=WORKER)
    # 1 where a thread of the checkpoint under way had to be left behind; JAX's own time-outs would
    # end the process with SIGABRT.
    assert codes[0] in (1, 3) and codes[1] == -signal.SIGKILL, outputs
    message = "LostProcessError: process 1 is gone; start all 2 processes again; the run goes on "
    assert message in outputs[0] and "LostProcessError" in outputs[0], outputs
    codes, outputs = run_two(tmp_path, "failing", worker=WORKER)
    assert codes[0] in (1, 3) and codes[1] == 1, outputs
    assert message in outputs[0], outputs
    assert "OSError: no space left" in outputs[1]


@pytest.mark.slow
def test_a_process_that_is_told_to_stop_stops_all_with_a_checkpoint(tmp_path, run_two):
    codes, outputs = run_two(tmp_path, "stopped", worker=WORKER)
    assert codes == [143, 143], outputs
    assert steps_stored(tmp_path) == [2, 3]
    codes, outputs = run_two(tmp_path, "nothing", worker=WORKER)
    assert codes == [0, 0], outputs
    assert steps_stored(tmp_path) == [4, 6]
