"""What command lines share: functions by name, and mistakes reported in one message."""

import atexit
import gc
from collections.abc import Callable, Mapping
from typing import Any

import jax
import tyro
from rich.console import Console

from gdpo_jax.compilation import compile_quickly, keep_programs
from gdpo_jax.errors import UserError
from gdpo_jax.files import is_full, is_refused
from gdpo_jax.training import MeshConfig
from gdpo_jax.training.processes import (
    LostProcessError,
    is_common,
    is_lost_process,
    leave_alone,
    lost_process_message,
    tell_failure,
)

__all__ = ["INTERRUPTED", "LOST", "WRONG", "mesh_config", "run_command"]

# Exit codes beside 0, 1 (a defect, with its traceback) and gdpo_jax.training.signals.STOPPED.
WRONG = 2  # a mistake of the user, or a full or closed disk; one message says what to do
LOST = 76  # another process of the run is gone
INTERRUPTED = 130  # Ctrl-C


def run_command(
    commands: Mapping[str, Callable[..., Any]],
    arguments: list[str] | None,
    *,
    prog: str,
    description: str | None,
) -> int:
    """Runs the command that `arguments` name (None: those of the process); returns the exit status.

    Programs for the CPU compile quickly (`compile_quickly`), and what JAX compiles on the way is
    kept in the user's cache folder (`keep_programs`). Where the arguments are those of the process,
    it collects garbage rarely.
    A mistake of the user (`UserError`), and a disk that is full or read-only, print one message and
    give `WRONG`, the loss of another process `LOST`, Ctrl-C `INTERRUPTED`; anything else is a
    defect and keeps its traceback. SIGTERM in a run ends the process with the code `STOPPED`.
    """
    if arguments is None:
        _collect_rarely()
    compile_quickly()
    keep_programs()
    try:
        tyro.extras.subcommand_cli_from_dict(
            dict(commands), prog=prog, description=description, args=arguments
        )
    except KeyboardInterrupt as error:
        # A run has said what it does already.
        if not error.args:
            _tell("stopped by Ctrl-C; the same command starts again")
        return INTERRUPTED
    except Exception as error:
        told = _leave_others(error)
        if isinstance(told, UserError):
            _tell(str(told))
            return LOST if isinstance(told, LostProcessError) else WRONG
        reason = " ".join(str(error).split())[:300]
        if is_refused(error):
            _tell(
                f"a disk is read-only or closed to this user ({reason}). Open it: the same command "
                "goes on after the last checkpoint"
            )
            return WRONG
        if is_full(error):
            _tell(
                f"a disk or quota is full ({reason}). Make room: the same command goes on after "
                "the last checkpoint"
            )
            return WRONG
        raise
    return 0


def _collect_rarely() -> None:
    """Python's collector leaves out what is imported, half a million objects that stay, and comes
    less often: most of what tracing makes stays as well. It took a tenth of a short command.
    """
    gc.freeze()
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)  # what is left at the end goes with the process


def _leave_others(error: Exception) -> Exception:
    """Let the other processes know, where there are any that wait; returns what to tell here."""
    if not jax.distributed.is_initialized():
        return error
    if is_lost_process(error):
        if not isinstance(error, LostProcessError):
            error = LostProcessError(lost_process_message())
    elif not is_common(error):
        tell_failure(error)
    if not is_common(error):
        leave_alone()
    return error


def _tell(message: str) -> None:
    console = Console(stderr=True, soft_wrap=True)
    console.print(f"error: {message}", style="red", highlight=False, markup=False)


def mesh_config(text: str) -> MeshConfig:
    """The mesh that DATAxFSDPxTENSOR means. Raises UserError for anything else."""
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise UserError(f"--mesh {text!r}: give three sizes as DATAxFSDPxTENSOR, such as 1x8x1")
    return MeshConfig(*map(int, sizes))
