"""Tests over several processes share the toy setting of the training tests."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TRAINING = Path(__file__).parent.parent / "training"
sys.path[:0] = [str(TRAINING), str(Path(__file__).parent)]


@pytest.fixture
def worker_environment() -> dict[str, str]:
    """Environment of a process with the toy setting on its path."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TRAINING), os.environ["PYTHONPATH"]]),
    }


TIMEOUT = 240


@pytest.fixture
def run_two(worker_environment) -> Callable[..., tuple[list[int], list[str]]]:
    """A function that starts both processes and waits; their exit codes and outputs.

    first: one that ends by itself, after which the other one is killed if it has not ended.
    """

    def run(workdir, *options, worker="run_worker.py", first=None):
        script, port = Path(__file__).with_name(worker), free_port()
        processes = [
            subprocess.Popen(
                [sys.executable, str(script), str(port), str(index), str(workdir), *options],
                env=worker_environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(2)
        ]
        try:
            if first is not None:
                processes[first].wait(timeout=TIMEOUT)
                processes[1 - first].kill()
            outputs = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        return [process.returncode for process in processes], outputs

    return run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
