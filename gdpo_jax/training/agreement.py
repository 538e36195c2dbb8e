"""The processes of a run compare what each of them was started with."""

import hashlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

import gdpo_jax
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

__all__ = ["check_agreement", "check_starts", "check_states", "code_version"]


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


def check_starts(arguments: Sequence[str], *, own: Sequence[str] = ()) -> None:
    """Compare the code and the options that the processes were started with.

    own: options with a value each that every process has its own of.

    Raises:
        UserError: on all of them, if they differ; lists what.
    """
    given = _by_option(arguments)
    options = {name: value for name, value in given.items() if name not in own}
    check_agreement({"code": code_version(), "options": options})


def code_version() -> dict[str, str]:
    """Versions of Python, JAX and this library, and digests of the source files of the library and
    of the program that was started."""
    main = sys.modules["__main__"]
    package = (main.__spec__.name if getattr(main, "__spec__", None) else "").partition(".")[0]
    folder = Path(gdpo_jax.__file__).parent
    version = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "gdpo_jax": gdpo_jax.__version__,
        "files of gdpo_jax": _source_digest([folder]),
    }
    if package and package != "gdpo_jax":
        places = [Path(place) for place in getattr(sys.modules.get(package), "__path__", ())]
        version[f"files of {package}"] = _source_digest(places)
    elif not package and getattr(main, "__file__", None):
        version["program"] = _source_digest([Path(main.__file__)])
    return version


def _source_digest(places: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            name = path.name if path == place else path.relative_to(place).as_posix()
            digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()};".encode())
    return digest.hexdigest()[:16]


def _by_option(arguments: Sequence[str]) -> dict[str, str]:
    """Values of a command line by the option that they stand behind."""
    found: dict[str, str] = {}
    name = "command"
    for argument in arguments:
        if argument.startswith("--"):
            name, _, value = argument.partition("=")
            found[name] = value
        else:
            found[name] = f"{found.get(name, '')} {argument}".strip()
    return found


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
