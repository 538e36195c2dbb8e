"""A verifier as one file: arrays in NumPy's npz, the rest as JSON beside them in the same archive.

Nothing in it is code: reading a file of somebody else's runs none.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.persona_leakage.fingerprint.features import Features, View
from experiments.persona_leakage.fingerprint.gate import Gate
from experiments.persona_leakage.fingerprint.scorers import Scorers
from experiments.persona_leakage.fingerprint.space import Space
from experiments.persona_leakage.fingerprint.verifier import Verifier
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside

__all__ = ["load_verifier", "save_verifier"]

_FORM = 2  # 1 held an encoder of another kind


def save_verifier(verifier: Verifier, path: Path) -> None:
    """Writes the whole file or leaves what was there. Raises UserError where it cannot."""
    scorers = verifier.scorers
    rest = {
        "form": _FORM,
        "kept": sorted(verifier.features.kept),
        "views": [[view.name, list(view.terms)] for view in verifier.features.views],
        "levels": list(scorers.levels),
        "typical": scorers.typical,
        "band": list(verifier.band),
        "gates": [[gate.threshold, gate.abstain] for gate in verifier.gates],
    }
    arrays = {
        "mean": scorers.space.mean,
        "deviation": scorers.space.deviation,
        "embedded": scorers.embedded,
        "encoded": scorers.encoded,
        "weights": verifier.weights,
        "bias": verifier.bias,
        "rest": np.frombuffer(json.dumps(rest).encode(), np.uint8),
    }
    arrays |= {f"axes{number}": axes for number, axes in enumerate(scorers.space.axes)}
    arrays |= {f"encoder{number}": axes for number, axes in enumerate(scorers.encoder.axes)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_beside(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def load_verifier(path: Path) -> Verifier:
    """The verifier of a file that `save_verifier` wrote.

    Raises UserError for a missing or damaged file, and one of another form.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; write one with fingerprint fit")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        rest = json.loads(arrays.pop("rest").tobytes())
        if rest["form"] != _FORM:
            raise UserError(f"{path} has form {rest['form']}, not {_FORM}; fit the verifier again")
        return _verifier(arrays, rest)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is damaged, or no verifier ({type(error).__name__}); fit it again"
        ) from error


def _verifier(arrays: dict[str, np.ndarray], rest: dict[str, Any]) -> Verifier:
    views = tuple(View(name, tuple(terms)) for name, terms in rest["views"])

    def space(name: str) -> Space:
        axes = tuple(arrays[f"{name}{number}"] for number in range(len(views)))
        return Space(mean=arrays["mean"], deviation=arrays["deviation"], axes=axes)

    low, high = rest["band"]
    return Verifier(
        features=Features(frozenset(rest["kept"]), views),
        scorers=Scorers(
            space=space("axes"),
            encoder=space("encoder"),
            levels=tuple(rest["levels"]),
            typical=rest["typical"],
            embedded=arrays["embedded"],
            encoded=arrays["encoded"],
        ),
        weights=arrays["weights"],
        bias=arrays["bias"],
        band=(low, high),
        gates=tuple(Gate(threshold, abstain) for threshold, abstain in rest["gates"]),
    )
