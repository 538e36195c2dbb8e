"""Whether things are what they were: the files of a folder, and the numbers of a tree.

A cut or missing file is found before anything tries to read it, and named.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

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


def fingerprint(tree: Any) -> str:
    """Sixteen hexadecimal digits for the names, shapes and float32 bits of a tree of arrays.

    Bits are summed as integers, so it does not depend on how arrays lie on devices. For the
    `identity` of a run whose checkpoints lack what the arrays hold.
    """
    sums = jax.device_get(_bit_sums(tree))
    digest = hashlib.sha256()
    for (path, leaf), total in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(sums)):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {int(total)};".encode())
    return digest.hexdigest()[:16]


@jax.jit
def _bit_sums(tree: Any) -> Any:
    def total(leaf: Any) -> Any:
        bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)
        return jnp.sum(bits, dtype=jnp.uint32)

    return jax.tree.map(total, tree)


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != _NOTE)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
