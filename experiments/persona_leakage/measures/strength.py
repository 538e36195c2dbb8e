"""Personalisation strength g_u: how much a user's history changes what the model says to him.

The divergence KL(pi(. | x, H_u), pi(. | x)) per token, mean over probes, or how much oftener his
marks come back than by chance. Strengths of a run are kept as JSON
Lines, a user a row: `user`, `strength` and, where it was measured, `leakage`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from experiments.common.files.json_rows import read_rows, shown, write_rows
from experiments.persona_leakage.measures.leakage import paired
from gdpo_jax.errors import UserError

__all__ = [
    "STRENGTH_FILES",
    "Strength",
    "divergences",
    "read_strengths",
    "recall_strengths",
    "user_strengths",
    "write_strengths",
]

# In a run's seed folder, by what the strength is.
STRENGTH_FILES = {"divergence": "strengths.jsonl", "recall": "strengths-recall.jsonl"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strength:
    """Of one user.

    strength: KL in nats per token, or recall minus base rate. leakage: how often strangers hear a
    mark of his because of his conversations; NaN where that was not measured
    """

    user: str
    strength: float
    leakage: float = math.nan


def divergences(
    with_history: Float[np.ndarray, "*N K"], without: Float[np.ndarray, "*N K"]
) -> Float[np.ndarray, "*N"]:
    """KL in nats between the next-token distributions with and without a user's history.

    Log-probs over a vocabulary of `K`, each normalised. Raises UserError for shapes that do not
    fit, and log-probs that are not normalised.
    """
    if with_history.shape != without.shape:
        raise UserError(
            f"log-probs with the history have shape {with_history.shape}, without it "
            f"{without.shape}; give the same tokens of the same vocabulary"
        )
    first = with_history.astype(np.float64)
    probs = np.exp(first)
    if not np.allclose(probs.sum(axis=-1), 1.0, atol=1e-3):
        raise UserError("log-probs of the vocabulary do not sum to one; normalise them first")
    with np.errstate(invalid="ignore"):
        # What has no probability with the history adds nothing, whatever it has without it.
        terms = np.where(probs > 0, probs * (first - without.astype(np.float64)), 0.0)
    return terms.sum(axis=-1)


def user_strengths(
    found: Float[np.ndarray, "N T"], mask: Bool[np.ndarray, "N T"], users: Sequence[str]
) -> dict[str, float]:
    """g_u: the mean of `divergences` over the tokens of a probe in `mask`, then over the probes of
    each user that have any; NaN of a user without.

    users: who asked each of the `N` probes. Raises UserError for other counts of them.
    """
    if not found.shape == mask.shape or len(users) != len(found):
        raise UserError(
            f"divergences of shape {found.shape}, a mask {mask.shape} and {len(users)} users; give "
            "[probe, token] twice, and a user for each probe"
        )
    own: dict[str, list[float]] = {user: [] for user in users}
    for user, values, kept in zip(users, found, mask, strict=True):
        if kept.any():
            own[user].append(float(values[kept].mean()))
    return {user: float(np.mean(means)) if means else math.nan for user, means in own.items()}


def recall_strengths(
    full: Float[np.ndarray, "U P"], without: Float[np.ndarray, "U P"]
) -> Float[np.ndarray, "U"]:
    """How much oftener a user's marks come back to him than from a model that never saw him.

    Detections D_u(y) in answers to his own probes, NaN where there is none, as `own_detections`.
    Raises UserError as `paired`.
    """
    gaps = paired(full, without)
    known = ~np.isnan(gaps)
    counts = known.sum(axis=1)
    sums = np.where(known, gaps, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def read_strengths(path: Path) -> list[Strength]:
    """The strengths in a file. Raises UserError that names row (from 1) and field."""
    found = [_strength(row, f"{path}, row {n}") for n, row in enumerate(read_rows(path), start=1)]
    names = [one.user for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: user {name!r} stands twice; give each user one strength")
    return found


def write_strengths(path: Path, found: Sequence[Strength]) -> None:
    """Writes strengths, the whole file or none; users whose strength is NaN are left out.

    Raises UserError where it cannot be written.
    """
    rows = [
        {name: value for name, value in dataclasses.asdict(one).items() if value == value}
        for one in found
        if not math.isnan(one.strength)
    ]
    write_rows(path, rows)


def _strength(row: Mapping[str, Any], where: str) -> Strength:
    for name in row.keys() - {"user", "strength", "leakage"}:
        raise UserError(f"{where}: unknown field {shown(name)}; give user, strength, leakage")
    user = row.get("user")
    if not isinstance(user, str):
        raise UserError(f"{where}, field 'user': expected text, found {shown(user)}")
    values = {"strength": row.get("strength"), "leakage": row.get("leakage", math.nan)}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{where}, field {name!r}: expected a number, found {shown(value)}")
    return Strength(user=user, **{name: float(value) for name, value in values.items()})
