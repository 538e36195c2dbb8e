"""Tests over several processes share the toy setting of the training tests."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes.forked import Forked

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
    fresh: whether Python starts anew, and does not go on from what was imported.
    """

    def start(fresh, *command):
        if not fresh:
            return Forked(*command, environment=worker_environment)
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=worker_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(workdir, *options, worker="run_worker.py", first=None, fresh=False):
        script, port = Path(__file__).with_name(worker), free_port()
        processes = [start(fresh, script, port, index, workdir, *options) for index in range(2)]
        try:
            if first is not None:
                processes[first].wait(timeout=TIMEOUT)
                processes[1 - first].kill()
            outputs = ["".join(process.communicate(timeout=TIMEOUT)) for process in processes]
        finally:
            for process in processes:
                process.kill()
        return [process.returncode for process in processes], outputs

    return run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
