"""Checkpoints of a run: state, data position and configuration, written whole or not at all.

Checkpoint `n` holds all that step `n` needs and gets its name when complete. One that cannot be
read is an error that names its folder; going back further is for a person, who deletes that folder.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from gdpo_jax.errors import UserError
from gdpo_jax.training.config import differing_fields, json_tree
from gdpo_jax.training.integrity import check_sizes, note_sizes
from gdpo_jax.training.processes import together
from gdpo_jax.training.state import abstract_like, named_leaves


class Checkpoints:
    """The newest `keep` checkpoints in `directory`, of a run with `config` (JSON-like)."""

    def __init__(self, directory: str | Path, *, config: Mapping[str, Any], keep: int = 2):
        self._directory = Path(directory).absolute()
        self._config = json_tree(config)
        newest = ocp.training.preservation_policies.LatestN(keep)
        options = {"preservation_policy": newest, "cleanup_tmp_directories": True}
        self._orbax = ocp.training.Checkpointer(self._directory, **options)
        self._saving: tuple[int, Any] | None = None

    @property
    def latest_step(self) -> int | None:
        return None if self._orbax.latest is None else self._orbax.latest.step

    def save(self, step: int, state: Any, position: Mapping[str, Any]) -> None:
        """Store the state and position before `step`; returns when the arrays are copied."""
        self.wait()
        if (self.latest_step or -1) >= step:
            return
        items = {"params": state.params, "rest": named_leaves(state.replace(params=()))}
        about = {"config": self._config, "position": dict(position)}
        save = self._orbax.save_checkpointables_async
        self._saving = step, save(step, items, force=True, custom_metadata=about)

    def restore(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """`(step, state, position)` of the newest checkpoint in the shape of `like`, or None.

        Raises UserError for a damaged one, or one of another configuration (names the fields).
        """
        if (step := self.latest_step) is None:
            return None
        with self._reading(step):
            about = self._orbax.checkpointables_metadata(step).custom_metadata
        if differences := differing_fields(about["config"], self._config):
            raise UserError(
                f"{self._directory / str(step)} was written by another configuration; nothing was "
                "changed. Use another work directory, or go back to\n  " + "\n  ".join(differences)
            )
        rest = named_leaves(like.replace(params=()))
        wanted = {"params": abstract_like(like.params), "rest": abstract_like(rest)}
        with self._reading(step):
            items = self._orbax.load_checkpointables(step, wanted)
        leaves = [items["rest"][name] for name in rest]
        state = jax.tree.unflatten(jax.tree.structure(like.replace(params=())), leaves)
        return step, state.replace(params=items["params"]), about["position"]

    def restore_params(self, like: Any) -> Any:
        """Only the parameters of the newest checkpoint, whatever its configuration."""
        if (step := self.latest_step) is None:
            raise UserError(f"there is no checkpoint in {self._directory}")
        with self._reading(step):
            return self._orbax.load_checkpointables(step, {"params": abstract_like(like)})["params"]

    def wait(self) -> None:
        """Return when everything saved so far is safe on disk."""
        if self._saving is None:
            return
        (step, saving), self._saving = self._saving, None
        saving.result()
        if jax.process_index() == 0:
            note_sizes(self._directory / str(step))

    def close(self) -> None:
        self.wait()
        self._orbax.close()

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        folder = self._directory / str(step)
        try:
            together(lambda: check_sizes(folder))
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            raise UserError(
                f"checkpoint {folder} is damaged or of another model ({reason}). "
                "Delete that folder to go on from the one before"
            ) from error
