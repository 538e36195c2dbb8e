"""Adapters on disk, one folder a user: what is deleted is his alone, and nothing else has to be
rewritten.

    ARM/adapters/NAME/           one user's adapter in peft's layout, and user.json
    ARM/training/                checkpoints of adapters that are being trained, removed at the end
    ARM/checkpoints/STEPS/       empty; there when all users' adapters are
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import jax

from experiments.common.files.json_rows import read_json
from experiments.common.scores.summaries import write_json
from gdpo_jax.files import write_beside
from gdpo_jax.policies import LoraConfig, Params, load_adapters, save_adapters
from gdpo_jax.recipe import Model
from gdpo_jax.training import replicated, together

__all__ = [
    "adapter_folder",
    "forget",
    "keep_adapter",
    "keep_metrics",
    "keep_only",
    "mark_finished",
    "on_first",
    "remove_training",
    "stored_adapter",
    "training_folder",
]

_ABOUT = "user.json"


def adapter_folder(folder: Path, user: str) -> Path:
    """Where an arm keeps a user's adapter. Any text is an id, so its digest names the folder."""
    return folder / "adapters" / hashlib.sha256(user.encode()).hexdigest()[:16]


def training_folder(folder: Path, digest: str) -> Path:
    """Where adapters are trained together, with the checkpoints of a run that may be stopped."""
    return folder / "training" / digest


def keep_adapter(
    folder: Path, user: str, adapters: Params, lora: LoraConfig, *, digest: str
) -> None:
    """Writes a user's adapter. digest: of all that it was made from. All processes call it."""
    own = adapter_folder(folder, user)
    # An adapter counts once the note is there, so that a process that is killed leaves none.
    on_first(lambda: (own / _ABOUT).unlink(missing_ok=True))
    save_adapters(own, adapters, lora)
    on_first(lambda: write_json(own / _ABOUT, {"user": user, "digest": digest}))


def stored_adapter(folder: Path, user: str, model: Model, *, digest: str) -> Params | None:
    """A user's adapter, whole on every device; None where there is none of this digest.

    Raises UserError for a damaged one, as `load_adapters`.
    """
    own = adapter_folder(folder, user)
    about = own / _ABOUT
    if not about.is_file() or read_json(about) != {"user": user, "digest": digest}:
        return None
    return jax.device_put(load_adapters(own, model.policy.config)[0], replicated(model.mesh))


def keep_only(folder: Path, users: Iterable[str]) -> None:
    """Deletes the adapters of all others, and those that were only begun."""
    kept = {adapter_folder(folder, user).name for user in users}

    def delete() -> None:
        adapters = folder / "adapters"
        for own in adapters.iterdir() if adapters.is_dir() else ():
            if own.name not in kept:
                shutil.rmtree(own)

    on_first(delete)


def keep_metrics(folder: Path, training: Path) -> None:
    """Takes over the rows of metrics of a training folder, in place of earlier ones."""
    rows = training / "metrics.jsonl"
    on_first(lambda: write_beside(folder / rows.name, rows.read_bytes()))


def remove_training(training: Path) -> None:
    """Deletes what was kept to go on with, when its adapters are all stored."""
    on_first(lambda: shutil.rmtree(training))


def mark_finished(folder: Path, steps: int) -> None:
    """Says that all adapters are there, and removes what stopped runs of others have left."""

    def finish() -> None:
        if (folder / "training").is_dir():
            shutil.rmtree(folder / "training")
        (folder / "checkpoints" / str(steps)).mkdir(parents=True, exist_ok=True)

    on_first(finish)


def forget(folder: Path, user: str) -> bool:
    """Deletes a user's adapter and everything that training may have kept of him; was there
    anything?

    Adapters of others stay as they are. Checkpoints of training under way hold all users together
    and go: those that are not finished begin anew. The arm counts as unfinished then, so that its
    scores are made anew.
    """
    own, training = adapter_folder(folder, user), folder / "training"
    found = own.is_dir() or training.is_dir()
    if found and jax.process_index() == 0:
        # First the marks, so that a process that is killed leaves an arm that is not finished.
        for path in (folder / "checkpoints", training, own):
            if path.is_dir():
                shutil.rmtree(path)
    return found


def on_first(work: Callable[[], object]) -> None:
    """Work on files that the first of several processes does alone; an error is one on all."""
    together(lambda: work() if jax.process_index() == 0 else None)
