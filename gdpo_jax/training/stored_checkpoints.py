"""What a stored checkpoint says of itself: configuration and position, names and shapes of its
arrays, and damage to any of it.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax

from gdpo_jax.errors import UserError
from gdpo_jax.training.integrity import check_files, text_sum
from gdpo_jax.training.processes import any_text, together

T = TypeVar("T")

_METADATA = "_CHECKPOINT_METADATA"  # Orbax's; the configuration and the position are part of it
_PARTS = {".advantage_state": "estimator", ".opt_state": "optimizer", "params": "policy"}
_MOST_LINES = 8


class DamagedCheckpointError(UserError):
    """A checkpoint is not what was written; `said` names it and its damage, `reason` that alone."""

    def __init__(self, folder: Path, reason: str):
        self.reason = reason
        self.said = f"checkpoint {folder} is damaged ({reason})."
        super().__init__(
            f"{self.said} Delete that folder to go on from the one before, or from the beginning "
            "if there is none"
        )


@contextlib.contextmanager
def naming_damage(folder: Path) -> Iterator[None]:
    """Whatever goes wrong while `folder` is read is its damage."""
    try:
        yield
    except Exception as error:
        reason = one_line(error).replace(f"{folder}/", "")
        raise DamagedCheckpointError(folder, reason) from error


def shared_damage(folder: Path, read: Callable[[], T]) -> T:
    """Run `read` on every process. Damage that one of them finds is damage for all."""
    damage: DamagedCheckpointError | None = None

    def attempt() -> T | None:
        nonlocal damage
        try:
            return read()
        except DamagedCheckpointError as error:
            damage = error
            return None

    result = together(attempt)
    reason = any_text("" if damage is None else damage.reason)
    if damage is not None:
        raise damage
    if reason:
        raise DamagedCheckpointError(folder, reason)
    return result


def one_line(error: Exception) -> str:
    """What an error says, at most 300 characters of it."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


def stored_metadata(folder: Path) -> dict[str, Any]:
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


def stored_about(folder: Path) -> dict[str, Any]:
    """What was stored beside the arrays: config and position."""
    with naming_damage(folder):
        check_files(folder, only=[_METADATA])
        about = stored_metadata(folder).get("custom_metadata") or {}
        for name in ("config", "position"):
            if not isinstance(about.get(name), dict):
                raise UserError(f"{_METADATA} holds no {name}")
        held = {name: value for name, value in about.items() if name != "crc32"}
        # Earlier versions stored no sum.
        if about.get("crc32", text_sum(held)) != text_sum(held):
            raise UserError(f"{_METADATA} is changed")
        return about


def check_structure(folder: Path, stored: Any, wanted: Any) -> None:
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


__all__ = [
    "DamagedCheckpointError",
    "check_structure",
    "naming_damage",
    "one_line",
    "shared_damage",
    "stored_about",
    "stored_metadata",
]
