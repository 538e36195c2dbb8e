"""What command lines share: functions by name, and mistakes reported in one message."""

from collections.abc import Callable, Mapping
from typing import Any

import tyro
from rich.console import Console

from gdpo_jax.compilation import compile_quickly, keep_programs
from gdpo_jax.errors import UserError
from gdpo_jax.training import MeshConfig

__all__ = ["mesh_config", "run_command"]


def run_command(
    commands: Mapping[str, Callable[..., Any]],
    arguments: list[str] | None,
    *,
    prog: str,
    description: str | None,
) -> int:
    """Runs the command that `arguments` name (None: those of the process); returns the exit status.

    Programs for the CPU compile quickly (`compile_quickly`), and what JAX compiles on the way is
    kept in the user's cache folder (`keep_programs`).
    A mistake of the user (`UserError`) prints one message and gives 2; anything else is a defect
    and keeps its traceback.
    """
    compile_quickly()
    keep_programs()
    try:
        tyro.extras.subcommand_cli_from_dict(
            dict(commands), prog=prog, description=description, args=arguments
        )
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"error: {error}", style="red", highlight=False, markup=False
        )
        return 2
    return 0


def mesh_config(text: str) -> MeshConfig:
    """The mesh that DATAxFSDPxTENSOR means. Raises UserError for anything else."""
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise UserError(f"--mesh {text!r}: give three sizes as DATAxFSDPxTENSOR, such as 1x8x1")
    return MeshConfig(*map(int, sizes))
