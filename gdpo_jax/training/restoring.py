"""What a finished or stopped run holds, read from its work directory alone."""

from pathlib import Path
from typing import Any

from gdpo_jax.errors import UserError
from gdpo_jax.training.checkpoints import Checkpoints, newest_config

__all__ = ["restore_params", "stored_config"]


def stored_config(workdir: str | Path) -> dict[str, Any]:
    """The configuration that a run's newest checkpoint was written with, as JSON holds it.

    Raises UserError where there is no checkpoint, or a damaged one.
    """
    return newest_config(_folder(workdir, "checkpoints"))


def restore_params(workdir: str | Path, like: Any, *, best: bool = False) -> Any:
    """The trained parameters of a run's newest checkpoint, or of its best evaluation.

    like: arrays or shapes with shardings, in the form that the run trains.
    Raises UserError where there is no checkpoint, a damaged one, or one of another policy.
    """
    folder = _folder(workdir, "best" if best else "checkpoints")
    checkpoints = Checkpoints(folder, config={})
    try:
        return checkpoints.restore_params(like)
    finally:
        checkpoints.close()


def _folder(workdir: str | Path, name: str) -> Path:
    folder = Path(workdir) / name
    if not folder.is_dir():
        hint = ": it has no evaluation with a metric" if name == "best" else ""
        raise UserError(f"{workdir} holds no {name}{hint}")
    return folder
