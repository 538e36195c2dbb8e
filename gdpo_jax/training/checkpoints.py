"""Checkpoints of a run: state, data position and configuration, written whole or not at all.

Checkpoint `n` holds all that step `n` needs and gets its name when complete. One that cannot be
read is an error that names its folder; going back further is for a person, who deletes that folder.
"""

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from gdpo_jax.errors import UserError
from gdpo_jax.training.config import differing_fields, json_tree
from gdpo_jax.training.integrity import check_files, note_files
from gdpo_jax.training.processes import together
from gdpo_jax.training.state import abstract_like, named_leaves

__all__ = ["Checkpoints", "newest_config"]

_METADATA = "_CHECKPOINT_METADATA"  # Orbax's; the configuration and the position are part of it
_PARTS = {".advantage_state": "estimator", ".opt_state": "optimizer", "params": "policy"}
_MOST_LINES = 8


class Checkpoints:
    """The newest `keep` checkpoints in `directory`, of a run with `config` (JSON-like).

    Raises:
        UserError: `directory` is no folder that can be used, or a checkpoint in it is damaged so
            that Orbax cannot list it; names it.
    """

    def __init__(self, directory: str | Path, *, config: Mapping[str, Any], keep: int = 2):
        self._directory = Path(directory).absolute()
        self._config = json_tree(config)
        newest = ocp.training.preservation_policies.LatestN(keep)
        options = {"preservation_policy": newest, "cleanup_tmp_directories": True}
        together(lambda: _check_folder(self._directory))
        try:
            self._orbax = ocp.training.Checkpointer(self._directory, **options)
        except Exception as error:
            raise UserError(
                f"the checkpoints in {self._directory} cannot be listed ({_said(error)}). Look for "
                "files and folders there that are none of this run, and move them elsewhere"
            ) from error
        self._saving: Future[None] | None = None

    @property
    def latest_step(self) -> int | None:
        return None if self._orbax.latest is None else self._orbax.latest.step

    @property
    def complete_step(self) -> int | None:
        """The newest checkpoint that has got its name; one being written is none."""
        return max(_step_folders(self._directory), default=None)

    def save(self, step: int, state: Any, position: Mapping[str, Any]) -> None:
        """Store the state and position before `step`; returns when the arrays are copied."""
        self.wait()
        latest = self.latest_step
        if latest is not None and latest >= step:
            return
        items = {"params": state.params, "rest": named_leaves(state.replace(params=()))}
        about = {"config": self._config, "position": dict(position)}
        save = self._orbax.save_checkpointables_async
        response = save(step, items, force=True, custom_metadata=about)
        self._saving = _in_background(lambda: self._finish(step, response))

    def restore(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """`(step, state, position)` of the newest checkpoint in the shape of `like`, or None.

        Raises:
            UserError: it is of another configuration, or of another optimizer, estimator or policy
                (names what differs), or it is damaged (names the file).
        """
        if (step := self.latest_step) is None:
            return None
        folder = self._directory / str(step)
        about = together(lambda: _about(folder))
        if differences := differing_fields(about["config"], self._config):
            raise UserError(
                f"{folder} was written by another configuration; nothing was changed. "
                "Use another work directory, or go back to\n  " + "\n  ".join(differences)
            )
        rest = named_leaves(like.replace(params=()))
        wanted = {"params": abstract_like(like.params), "rest": abstract_like(rest)}
        items = self._load(step, wanted)
        leaves = [items["rest"][name] for name in rest]
        state = jax.tree.unflatten(jax.tree.structure(like.replace(params=())), leaves)
        return step, state.replace(params=items["params"]), about["position"]

    def restore_params(self, like: Any) -> Any:
        """Only the parameters of the newest checkpoint, whatever its configuration.

        Raises:
            UserError: there is none, or it is damaged or of another policy.
        """
        if (step := self.latest_step) is None:
            raise UserError(f"there is no checkpoint in {self._directory}")
        together(lambda: _about(self._directory / str(step)))
        return self._load(step, {"params": abstract_like(like)})["params"]

    def wait(self) -> None:
        """Return when everything saved so far is safe on disk."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def close(self) -> None:
        self.wait()
        self._orbax.close()

    def _load(self, step: int, wanted: Any) -> Any:
        folder = self._directory / str(step)
        index, count = jax.process_index(), jax.process_count()

        def check() -> None:
            with _naming(folder):
                check_files(folder, part=index, parts=count)
                stored = self._orbax.checkpointables_metadata(step).metadata
                stored = {name: stored[name] for name in wanted}
            _check_structure(folder, stored, wanted)

        together(check)
        with _naming(folder):
            return self._orbax.load_checkpointables(step, wanted)

    def _finish(self, step: int, response: Any) -> None:
        response.result()
        # The folder is complete when all processes have written their part.
        if jax.process_index() == 0:
            note_files(self._directory / str(step))


def newest_config(directory: Path) -> dict[str, Any]:
    """The configuration stored with the newest checkpoint in `directory`.

    Raises:
        UserError: there is no checkpoint, or it is damaged.
    """
    folders = _step_folders(directory)
    if not folders:
        raise UserError(f"there is no checkpoint in {directory}")
    return together(lambda: _about(folders[max(folders)]))["config"]


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Whatever goes wrong while `folder` is read is its damage."""
    try:
        yield
    except Exception as error:
        reason = _said(error).replace(f"{folder}/", "")
        raise UserError(
            f"checkpoint {folder} is damaged ({reason}). Delete that folder to go on from the one "
            "before, or from the beginning if there is none"
        ) from error


def _said(error: Exception) -> str:
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


def _step_folders(directory: Path) -> dict[int, Path]:
    folders = (path for path in directory.iterdir() if re.fullmatch("0|[1-9][0-9]*", path.name))
    return {int(path.name): path for path in folders if path.is_dir()}


def _check_folder(directory: Path) -> None:
    """Make the folder, and look at what Orbax reads of all checkpoints when it opens one."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        folders = _step_folders(directory)
    except OSError as error:
        raise UserError(f"{directory} cannot hold checkpoints: {error.strerror}") from error
    for folder in folders.values():
        with _naming(folder):
            _metadata(folder)


def _metadata(folder: Path) -> dict[str, Any]:
    """Orbax's metadata of a checkpoint; empty where it has none or no JSON."""
    try:
        found = json.loads((folder / _METADATA).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    numbers = ("init_timestamp_nsecs", "commit_timestamp_nsecs")
    dicts = ("custom_metadata", "metrics", "performance_metrics")
    kinds = dict.fromkeys(numbers, int) | dict.fromkeys(dicts, dict)
    if not isinstance(found, dict):
        raise UserError(f"{_METADATA} is no JSON object")
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind | None):
            raise UserError(f"{name} in {_METADATA} is {found[name]!r}")
    return found


def _about(folder: Path) -> dict[str, Any]:
    """What was stored beside the arrays: config and position."""
    with _naming(folder):
        check_files(folder, only=[_METADATA])
        about = _metadata(folder).get("custom_metadata") or {}
        for name in ("config", "position"):
            if not isinstance(about.get(name), dict):
                raise UserError(f"{_METADATA} holds no {name}")
        return about


def _check_structure(folder: Path, stored: Any, wanted: Any) -> None:
    """Raises UserError where the names, shapes or dtypes of arrays differ."""
    before, now = _kinds(stored), _kinds(wanted)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not names:
        return
    whose = {what for key, what in _PARTS.items() for name in names if name.startswith(key)}
    lines = [
        f"{name.removeprefix('.')}: {before.get(name, 'absent')} (stored), "
        f"{now.get(name, 'absent')} (now)"
        for name in names
    ]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more"]
    raise UserError(
        f"{folder} holds the state of another {' and '.join(sorted(whose)) or 'run'}; nothing was "
        "changed. Use another work directory, or go back to\n  " + "\n  ".join(lines)
    )


def _kinds(items: Any) -> dict[str, str]:
    kinds = {}
    for item, tree in items.items():
        for path, leaf in jax.tree.leaves_with_path(tree):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            # Orbax stores random keys as their numbers.
            key = item == "rest" and name == ".key"
            kind = "random key" if key else f"{leaf.dtype} {tuple(leaf.shape)}"
            kinds[name if item == "rest" else f"{item}/{name}"] = kind
    return kinds


def _in_background(work: Any) -> Future[None]:
    """Run `work` in a thread that does not keep the process from ending."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="checkpoint", daemon=True).start()
    return future
