"""Checkpoints of a run: state, data position and configuration, written whole or not at all.

Checkpoint `n` holds all that step `n` needs and gets its name when complete. A run goes on from the
newest good one: damaged ones that are newer are put beside the folder, with a warning that names
both. Where none is good, that is an error, and nothing is touched.
"""

import functools
import itertools
import re
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from gdpo_jax.errors import UserError
from gdpo_jax.training.config import differing_fields, json_tree
from gdpo_jax.training.integrity import (
    check_files,
    fingerprint,
    has_note,
    note_files,
    text_sum,
)
from gdpo_jax.training.processes import agreed_maximum, mark_common, together
from gdpo_jax.training.state import abstract_like, named_leaves
from gdpo_jax.training.stored_checkpoints import (
    DamagedCheckpointError,
    check_structure,
    naming_damage,
    one_line,
    shared_damage,
    stored_about,
    stored_metadata,
)

__all__ = ["Checkpoints", "newest_config"]

_LEAST_PIECE = 2**20  # bytes


class Checkpoints:
    """The newest `keep` checkpoints in `directory`, of a run with `config` (JSON-like).

    Raises:
        UserError: `directory` is no folder that can be used; names it.
    """

    def __init__(self, directory: str | Path, *, config: Mapping[str, Any], keep: int = 2):
        self._directory = Path(directory).absolute()
        self._config = json_tree(config)
        self._keep = keep
        together(lambda: _make_folder(self._directory))
        self._saving: Future[None] | None = None

    @property
    def latest_step(self) -> int | None:
        """The newest checkpoint that has got its name; one being written is none."""
        return max(_step_folders(self._directory), default=None)

    @functools.cached_property
    def _orbax(self) -> ocp.training.Checkpointer:
        """Orbax's view of the folder, which takes that all checkpoints in it can be listed."""
        newest = ocp.training.preservation_policies.LatestN(self._keep)
        options = {"preservation_policy": newest, "cleanup_tmp_directories": True}
        try:
            return ocp.training.Checkpointer(self._directory, **options)
        except Exception as error:
            raise UserError(
                f"the checkpoints in {self._directory} cannot be listed ({one_line(error)}). Look "
                "for files and folders there that are none of this run, and move them elsewhere"
            ) from error

    def save(
        self,
        step: int,
        state: Any,
        position: Mapping[str, Any],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Store the state and position before `step`; returns when the arrays are copied.

        extra: arrays of any shapes by name, which `restore_extra` gives back.
        """
        self.wait()
        latest = self.latest_step
        if latest is not None and latest >= step:
            return
        items = {"params": state.params, "rest": named_leaves(state.replace(params=()))}
        if extra:
            items["extra"] = dict(extra)
        arrays = {name: fingerprint(item) for name, item in items.items()}
        about = {"config": self._config, "position": dict(position), "arrays": arrays}
        about = json_tree(about)
        about["crc32"] = text_sum(about)
        with _small_arrays_by_one_device():
            save = self._orbax.save_checkpointables_async
            response = save(step, items, force=True, custom_metadata=about)
        self._saving = _in_background(lambda: self._finish(step, response))

    def restore(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """`(step, state, position)` of the newest good checkpoint in the shape of `like`, or None.

        Damaged ones that are newer are moved to a folder beside this one, with a warning.

        Raises:
            UserError: it is of another configuration, or of another optimizer, estimator or policy
                (names what differs), or there are only damaged ones (names what of the newest).
        """
        left, damaged = set(_step_folders(self._directory)), dict[int, DamagedCheckpointError]()
        while (step := agreed_maximum(max(left, default=-1))) >= 0:
            left.discard(step)
            try:
                found = self._restored(step, like)
            except DamagedCheckpointError as error:
                damaged[step] = error
                continue
            damaged.update({other: error for other in left if (error := self._unlisted(other))})
            together(functools.partial(self._set_aside, damaged, step))
            _ = self._orbax
            return found
        if damaged:
            raise mark_common(damaged[max(damaged)])
        _ = self._orbax
        return None

    def _restored(self, step: int, like: Any) -> tuple[int, Any, dict[str, Any]]:
        folder = self._directory / str(step)
        about = shared_damage(folder, lambda: stored_about(folder))
        if differences := differing_fields(about["config"], self._config):
            raise UserError(
                f"{folder} was written by another configuration; nothing was changed. "
                "Use another work directory, or go back to\n  " + "\n  ".join(differences)
            )
        rest = named_leaves(like.replace(params=()))
        wanted = {"params": abstract_like(like.params), "rest": abstract_like(rest)}
        items = self._load(step, wanted, about)
        leaves = [items["rest"][name] for name in rest]
        state = jax.tree.unflatten(jax.tree.structure(like.replace(params=())), leaves)
        return step, state.replace(params=items["params"]), about["position"]

    def _unlisted(self, step: int) -> DamagedCheckpointError | None:
        """The damage because of which Orbax could not list a checkpoint."""
        folder = self._directory / str(step)
        try:
            with naming_damage(folder):
                if not stored_metadata(folder):
                    raise UserError(f"{_METADATA} holds nothing")
        except DamagedCheckpointError as error:
            return error
        return None

    def _set_aside(self, damaged: Mapping[int, DamagedCheckpointError], step: int) -> None:
        """Move damaged checkpoints out of the way; the run goes on from `step`."""
        if jax.process_index() != 0:
            return
        beside = self._directory.with_name(f"{self._directory.name}-damaged")
        for number, error in sorted(damaged.items(), reverse=True):
            names = itertools.chain([str(number)], (f"{number}-{n}" for n in itertools.count(2)))
            name = next(name for name in names if not (beside / name).exists())
            try:
                beside.mkdir(exist_ok=True)
                (self._directory / str(number)).rename(beside / name)
            except OSError as failed:
                raise UserError(
                    f"{error.said} It cannot be moved to {beside} ({failed.strerror}); move it, to "
                    f"go on from checkpoint {step}"
                ) from failed
            warnings.warn(
                f"{error.said} It is moved to {beside / name}, and the run goes on from checkpoint "
                f"{self._directory / str(step)}",
                stacklevel=4,
            )

    def restore_params(self, like: Any) -> Any:
        """Only the parameters of the newest checkpoint, whatever its configuration.

        Raises:
            UserError: there is none, or it is damaged or of another policy.
        """
        if (step := self.latest_step) is None:
            raise UserError(f"there is no checkpoint in {self._directory}")
        folder = self._directory / str(step)
        about = shared_damage(folder, lambda: stored_about(folder))
        return self._load(step, {"params": abstract_like(like)}, about)["params"]

    def restore_extra(self, step: int, sharding: jax.sharding.Sharding) -> dict[str, jax.Array]:
        """The arrays that were stored beside the state of checkpoint `step`, with that sharding.

        Raises:
            UserError: the checkpoint is damaged.
        """
        folder = self._directory / str(step)
        about = shared_damage(folder, lambda: stored_about(folder))
        if "extra" not in about.get("arrays", {}):
            return {}

        def described() -> dict[str, Any]:
            with naming_damage(folder):
                return dict(ocp.checkpointables_metadata(folder).metadata["extra"] or {})

        wanted = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
            for name, leaf in shared_damage(folder, described).items()
        }
        return self._load(step, {"extra": wanted}, about)["extra"]

    def wait(self) -> None:
        """Return when everything saved so far is safe on disk."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def close(self) -> None:
        self.wait()
        if "_orbax" in vars(self):
            self._orbax.close()

    def _load(self, step: int, wanted: Any, about: Mapping[str, Any]) -> Any:
        folder = self._directory / str(step)
        index, count = jax.process_index(), jax.process_count()

        def check() -> None:
            with naming_damage(folder):
                check_files(folder, part=index, parts=count)
                stored = ocp.checkpointables_metadata(folder).metadata
                stored = {name: stored[name] for name in wanted}
                # Orbax gives None for what it cannot read.
                if lost := [name for name in wanted if stored[name] is None]:
                    raise UserError(f"the names of the arrays in {lost[0]} cannot be read")
            check_structure(folder, stored, wanted)

        shared_damage(folder, check)
        with naming_damage(folder):
            items = ocp.load_checkpointables(folder, wanted)
        # The process may have ended between the checkpoint and the note.
        if agreed_maximum(int(not has_note(folder))):
            for name, item in items.items():
                if fingerprint(item) != about.get("arrays", {}).get(name, fingerprint(item)):
                    raise DamagedCheckpointError(folder, f"the arrays in {name} are changed")
        return items

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
    newest = folders[max(folders)]
    return shared_damage(newest, lambda: stored_about(newest))["config"]


def _step_folders(directory: Path) -> dict[int, Path]:
    folders = (path for path in directory.iterdir() if re.fullmatch("0|[1-9][0-9]*", path.name))
    return {int(path.name): path for path in folders if path.is_dir()}


def _make_folder(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _step_folders(directory)
    except OSError as error:
        raise UserError(f"{directory} cannot hold checkpoints: {error.strerror}") from error


def _small_arrays_by_one_device() -> ocp.Context:
    """Of an array that lies whole on several devices, each writes a piece, and cutting them takes a
    compiled program for each shape and device: only where pieces are large.
    """
    context = ocp.Context()
    context.array.saving.min_slice_bytes_for_replica_parallel = _LEAST_PIECE
    return context


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
