"""Processes that tests start where JAX and the library are imported already.

The imports take more than half of the time of most of them. One process of its own does them once
and starts no backend; it is this file as a program. Each process of a test is a fork of it that
runs a script as a new Python would, to the end of the interpreter.

Variables of the environment that JAX reads while it is imported are those of the first start; a
script that needs others sets `jax.config`.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

IMPORTED = (
    "gdpo_jax.commands.running",
    "gdpo_jax.recipe",
    "gdpo_jax.training",
    "jax.experimental.multihost_utils",
)
_SIZE = 4  # bytes of a number


class Forked:
    """A script in a process of its own; its output is kept in files until it is asked for."""

    def __init__(
        self, script: Path, *arguments: object, environment: Mapping[str, str] = os.environ
    ):
        told = [str(script), *map(str, arguments)], dict(environment), os.getcwd()
        self._line, its = socket.socketpair()
        self._files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        self.returncode: int | None = None
        with its:
            kept = [its.fileno(), *(file.fileno() for file in self._files)]
            socket.send_fds(_server()[0], [b"."], kept)
            self._line.sendall(json.dumps(told).encode() + b"\n")
        self.pid = self._number()

    def _number(self) -> int:
        data = self._line.recv(_SIZE)
        if len(data) != _SIZE:
            raise RuntimeError("the process that forks has ended")
        return int.from_bytes(data, "big", signed=True)

    def wait(self, timeout: float) -> int:
        """Its exit code, as `subprocess.Popen.wait` says it. Raises TimeoutError."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            self.returncode = self._number()
        return self.returncode

    def poll(self) -> int | None:
        ended = self.returncode is not None or select.select([self._line], [], [], 0)[0]
        return self.wait(0) if ended else None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> list[str]:
        """Waits, closes its files, and returns what it printed: standard output and error."""
        self.wait(timeout)
        self._line.close()
        printed = []
        for file in self._files:
            with file:
                file.seek(0)
                printed.append(file.read())
        return printed


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen]:
    mine, its = socket.socketpair()
    with its:
        process = subprocess.Popen([sys.executable, __file__], stdin=its)
    atexit.register(process.wait)
    atexit.register(mine.close)  # which comes before, and ends it
    return mine, process


def _serve() -> list[str]:
    """Forks until the tests have ended. Returns in each fork, when it is prepared: its script and
    arguments.
    """
    for name in IMPORTED:
        importlib.import_module(name)
    threads = Path("/proc/self/task")
    assert not threads.exists() or len(list(threads.iterdir())) == 1, "forks lack other threads"
    gc.freeze()
    requests, lines = socket.socket(fileno=os.dup(0)), {}
    while True:
        if select.select([requests], [], [], 0.02 if lines else None)[0]:
            more, given, *_ = socket.recv_fds(requests, 1, 3)
            if not more:
                os._exit(0)
            line = socket.socket(fileno=given[0])
            pid = os.fork()
            if pid == 0:
                return _prepare(line, *given[1:])
            line.sendall(pid.to_bytes(_SIZE, "big", signed=True))
            lines[pid] = line
            for file in given[1:]:
                os.close(file)
        for pid in list(lines):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                with lines.pop(pid) as line:
                    line.sendall(code.to_bytes(_SIZE, "big", signed=True))


def _prepare(line: socket.socket, output: int, errors: int) -> list[str]:
    with line, line.makefile() as told:
        arguments, environment, folder = json.loads(told.readline())
    with open(os.devnull) as nothing:
        for number, file in enumerate((nothing.fileno(), output, errors)):
            os.dup2(file, number)
    os.close(output)
    os.close(errors)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:1] = [os.path.dirname(arguments[0]), *environment["PYTHONPATH"].split(os.pathsep)]
    return arguments


if __name__ == "__main__":
    sys.argv = _serve()
    runpy.run_path(sys.argv[0], run_name="__main__")
