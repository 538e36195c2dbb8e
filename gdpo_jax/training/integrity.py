"""Whether a folder is as it was when it was complete: the size of every file, noted beside them.

A cut or missing file is found before anything tries to read it, and named.
"""

import json
from pathlib import Path

from gdpo_jax.errors import UserError

_NOTE = "sizes.json"


def note_sizes(folder: Path) -> None:
    """Write the size of every file under `folder` to `folder/sizes.json`."""
    (folder / _NOTE).write_text(json.dumps(_sizes(folder), indent=1), encoding="utf-8")


def check_sizes(folder: Path) -> None:
    """Compare with the note; a folder whose process was stopped before writing one passes.

    Raises:
        UserError: a file is missing or of another size; names it.
    """
    note = folder / _NOTE
    if not note.exists():
        return
    try:
        expected = json.loads(note.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{note} is cut") from error
    found = _sizes(folder)
    for name, size in expected.items():
        if found.get(name) != size:
            state = "missing" if name not in found else f"{found[name]} bytes instead of {size}"
            raise UserError(f"{folder / name} is {state}")


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != _NOTE)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
