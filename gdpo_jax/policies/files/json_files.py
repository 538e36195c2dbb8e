"""JSON files that describe a model, read and written with one clear error."""

import json
from pathlib import Path
from typing import Any

from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError where the file is none, or is not there."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def write_json(path: Path, value: Any) -> None:
    """Indented JSON with a line end; the file gets its name when it is complete."""
    write_beside(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


__all__ = ["read_json", "write_json"]
