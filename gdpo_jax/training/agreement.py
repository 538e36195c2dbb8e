"""The processes of a run compare what each of them was started with."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gdpo_jax.errors import UserError
from gdpo_jax.training.config import json_tree
from gdpo_jax.training.integrity import fingerprint
from gdpo_jax.training.processes import (
    agreed_maximum,
    exchange_bytes,
    gather,
    mark_common,
    together,
)
from gdpo_jax.training.state import TrainState

__all__ = ["check_agreement", "check_states"]


def check_agreement(described: Mapping[str, Any], records: Any = None) -> None:
    """Compare a JSON-like description of the run, and what `records` say of themselves (where they
    can `describe` it), between all processes.

    Raises:
        UserError: on all of them, if they differ; lists the fields with their values.
    """
    if jax.process_count() == 1:
        return
    describe = getattr(records, "describe", lambda: None)
    described = {**described, "records": together(describe)}
    text = json.dumps(json_tree(described), sort_keys=True).encode()
    digest = np.frombuffer(hashlib.sha256(text).digest(), np.uint8)
    if np.all(gather(digest) == digest[None]):
        return
    width = agreed_maximum(len(text))
    trees = [_fields(json.loads(found)) for found in exchange_bytes(text, width)]
    lines = []
    for name in dict.fromkeys(name for tree in trees for name in tree):
        values: dict[str, list[int]] = {}
        for process, tree in enumerate(trees):
            values.setdefault(tree.get(name, "absent"), []).append(process)
        if len(values) > 1:
            lines.append(
                f"{name}: "
                + ", ".join(
                    f"{value[:200]} (process {', '.join(map(str, processes))})"
                    for value, processes in values.items()
                )
            )
    raise mark_common(
        UserError(
            "the processes were started with different settings; start all of them with the same\n"
            "  " + "\n  ".join(lines)
        )
    )


def check_states(start_step: int, state: TrainState) -> None:
    """Compare where the processes begin: step, updates, random key and parameters.

    Raises:
        UserError: on all of them, if they differ.
    """
    if jax.process_count() == 1:
        return
    key = jax.random.key_data(state.key)
    arrays = {"updates": state.step, "random key": key, "parameters": state.params}
    found = {name: fingerprint(tree) for name, tree in arrays.items()}
    check_agreement({"first step": start_step, "digests of the first state": found})


def _fields(tree: Any, name: str = "") -> dict[str, str]:
    """Every leaf of a JSON tree of objects, by its path, as text."""
    if isinstance(tree, dict) and tree:
        return {
            path: leaf
            for key, value in tree.items()
            for path, leaf in _fields(value, f"{name}.{key}" if name else key).items()
        }
    return {name: json.dumps(tree)}
