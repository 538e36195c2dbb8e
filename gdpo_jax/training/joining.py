"""How a process joins the others of a run, and what is shown of it when JAX ends it.

When the process that coordinates is gone, or another one sends no heartbeat, JAX prints the stack
of its own C++ code and ends this process with SIGABRT; no Python code can run then. A small process
beside this one reads what is written to standard error, and shows one message in place of that.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax

from gdpo_jax.errors import UserError

__all__ = ["join_processes"]

_HEARTBEAT = 20  # seconds without a sign of life until a process is taken for gone
_FILTER = Path(__file__).with_name("error_filter.py")


def join_processes(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    patience: int = 300,
) -> None:
    """Make this process one of a run over several; to be called before JAX is first used.

    coordinator: HOST:PORT of process 0, on which it listens and which the others reach. Without
    the three arguments JAX finds the others by itself, on a TPU VM or pod, on GKE, under SLURM and
    under Open MPI. patience: seconds to wait for the others.

    A process that is gone or does not answer stops the others after 20 seconds, or at once where
    its connections close. From here on the standard error is no terminal.

    Raises:
        UserError: the arguments do not go together, nothing says who the others are, or they do not
            come; says which.
    """
    _check(coordinator, num_processes, process_id)
    _filter_errors()
    # A SIGTERM is answered by the run itself (`signals.py`); JAX's own handler would swallow one
    # that comes outside of a run.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=patience,
            heartbeat_timeout_seconds=_HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(_reason(error, coordinator, process_id)) from error


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    given = {
        "--coordinator": coordinator,
        "--num-processes": num_processes,
        "--process-id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise UserError(
            f"{' and '.join(missing)} must be given as well: all of {', '.join(given)}, or none of "
            "them where JAX finds the processes by itself (TPU VMs, GKE, SLURM)"
        )
    if missing:
        return
    if not re.fullmatch(r"(\[[^]\s]+\]|[^:\s]+):[1-9][0-9]{0,4}", coordinator):
        raise UserError(f"--coordinator {coordinator!r}: give HOST:PORT of process 0")
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process-id {process_id} is not in 0..{num_processes - 1}, the numbers of "
            f"{num_processes} processes"
        )


def _filter_errors() -> None:
    """Let the standard error of this process and those that it starts pass through the filter."""
    sys.stderr.flush()
    read, write = os.pipe()
    # In a session of its own: Ctrl-C must not end it before it has shown the last line.
    subprocess.Popen(
        [sys.executable, "-I", "-S", str(_FILTER)],
        stdin=read,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.dup2(write, 2)
    os.close(read)
    os.close(write)


def _reason(error: Exception, coordinator: str | None, process_id: int | None) -> str:
    said = " ".join(str(error).split())[:300]
    if isinstance(error, ValueError) and coordinator is None:
        return (
            f"nothing says who the other processes are ({said}): this is no TPU VM, GKE or SLURM "
            "job that JAX knows. Give --coordinator, --num-processes and --process-id, or start "
            "one process without --distributed"
        )
    if "backend" in said:
        return f"the processes must join before JAX is first used ({said})"
    who = "this process" if process_id is None else f"process {process_id}"
    where = "" if coordinator is None else f" at {coordinator}"
    return (
        f"{who} could not join the others{where} ({said}). Start all processes within five "
        "minutes, see that the port of process 0 is open to them, and unset http_proxy and "
        "https_proxy"
    )
