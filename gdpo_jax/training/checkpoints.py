"""Checkpoints of a run: state, data position and configuration, written whole or not at all.

A checkpoint labelled `n` holds everything that step `n` needs, and appears under its name only when
complete, so that a killed run leaves either the old or the new one. A checkpoint that cannot be
read is an error that names its folder: going back further is a decision for a person, who deletes
that folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from gdpo_jax.errors import UserError
from gdpo_jax.training.config import differing_fields, json_tree


class Checkpoints:
    """The checkpoints in `directory` of a run with `config` (JSON-like), the newest `keep` of them."""

    def __init__(self, directory: str | Path, *, config: Mapping[str, Any], keep: int = 2):
        self._directory = Path(directory).absolute()
        self._config = json_tree(config)
        self._orbax = ocp.training.Checkpointer(
            self._directory,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    @property
    def latest_step(self) -> int | None:
        latest = self._orbax.latest
        return None if latest is None else latest.step

    def save(self, step: int, state: Any, position: Mapping[str, Any]) -> None:
        """Store the state and data position before step `step`; returns when the arrays are copied."""
        if self.latest_step is not None and self.latest_step >= step:
            return
        items = {
            "params": state.params,
            "rest": _named(state.replace(params=())),
            "run": {"config": self._config, "position": dict(position)},
        }
        self._orbax.save_checkpointables_async(step, items, force=True)

    def restore(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """`(step, state, position)` of the newest checkpoint, or None if there is none.

        `like` gives structure, dtypes and shardings. Raises UserError for a checkpoint that another
        configuration wrote (naming the fields that differ) or that cannot be read.
        """
        step = self.latest_step
        if step is None:
            return None
        run = self._load(step, {"run": None})["run"]
        if differences := differing_fields(run["config"], self._config):
            raise UserError(
                f"{self._directory / str(step)} was written by another configuration; nothing was "
                "changed. Use another work directory, or go back to\n  " + "\n  ".join(differences)
            )
        rest = _named(like.replace(params=()))
        items = self._load(step, {"params": _abstract(like.params), "rest": _abstract(rest)})
        structure = jax.tree.structure(like.replace(params=()))
        state = jax.tree.unflatten(structure, [items["rest"][name] for name in rest])
        return step, state.replace(params=items["params"]), run["position"]

    def restore_params(self, like: Any) -> Any:
        """Only the parameters of the newest checkpoint, whatever its configuration."""
        if self.latest_step is None:
            raise UserError(f"there is no checkpoint in {self._directory}")
        return self._load(self.latest_step, {"params": _abstract(like)})["params"]

    def wait(self) -> None:
        """Return when everything saved so far is safe on disk."""
        self._orbax.wait()

    def close(self) -> None:
        self._orbax.close()

    def _load(self, step: int, items: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._orbax.load_checkpointables(step, items)
        except Exception as error:
            raise UserError(
                f"checkpoint {self._directory / str(step)} cannot be read "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else error!r});"
                " it is damaged or of another model. Delete that folder to go on from the one before"
            ) from error


def _named(tree: Any) -> dict[str, Any]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in paths}


def _abstract(tree: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), tree)
