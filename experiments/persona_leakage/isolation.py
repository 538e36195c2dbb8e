"""Selective isolation: whose conversations stay apart, and what every threshold costs and leaves.

A user u is isolated where his personalisation strength g_u is above a threshold gamma;
gamma = 0 isolates everybody, infinity nobody. What is not isolated may be pooled, and learnt from.
`measures/strength.py` has g_u, as KL per token or as recall of marks minus their base rate.
All functions take numbers of users, never what these said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gdpo_jax.errors import UserError

__all__ = ["Curve", "curve", "isolated", "thresholds"]


@dataclass(frozen=True)
class Curve:
    """What isolation brings at every threshold; all arrays are float64 [thresholds].

    share: of users that are isolated
    storage: what the isolated users' stores take, in the unit of the argument
    rest: mean leakage of the users that are not isolated; NaN where there is none
    total: sum of the same over the number of all users, isolated ones adding nothing
    """

    gammas: np.ndarray
    share: np.ndarray
    storage: np.ndarray
    rest: np.ndarray
    total: np.ndarray


def isolated(strengths: ArrayLike, gamma: float) -> np.ndarray:
    """Who is isolated: bool [users], where the strength is above gamma.

    At 0 everybody is, also a user whose strength is 0 or, as recall below its base rate, negative.
    Raises `UserError` for a strength that is no number, and a gamma below 0.
    """
    values = _numbers("strengths", strengths)
    if math.isnan(gamma) or gamma < 0:
        raise UserError(f"gamma is {gamma}; give 0 (everybody), a number above it, or inf (nobody)")
    return (values > gamma) | (gamma == 0)


def thresholds(strengths: ArrayLike) -> np.ndarray:
    """One gamma, in rising order, for every set of users that can be isolated: from 0 to infinity.

    Between 0 and infinity stand the strengths at which one user less is isolated, and before them,
    where somebody has no strength, half of the smallest one. Raises `UserError` as `isolated`.
    """
    values = _numbers("strengths", strengths)
    above = np.unique(values[values > 0])
    half = above[:1] / 2 if (values <= 0).any() else above[:0]
    # Half of the smallest number that floats have is 0, which stands there already.
    return np.concatenate([[0.0], half[half > 0], above[:-1], [np.inf]])


def curve(
    strengths: ArrayLike, storage: ArrayLike, leakage: ArrayLike, gammas: ArrayLike | None = None
) -> Curve:
    """Share isolated, storage, and leakage of the rest, over gamma (all `thresholds` unless given).

    strengths, storage, leakage: [users]; storage such as bytes, leakage such as the paired leakage
    rate of a user's marks (NaN where it was not measured: such users are left out of `rest` and
    `total`). Raises `UserError` as `isolated`, and for arrays of other lengths.
    """
    values, sizes = _numbers("strengths", strengths), _numbers("storage", storage)
    leaks = np.asarray(leakage, np.float64)
    _check_count("sizes of storage", sizes, len(values))
    _check_count("values of leakage", leaks, len(values))
    if not len(values):
        raise UserError("there are no users; a curve needs at least one")
    at = thresholds(values) if gammas is None else np.asarray(gammas, np.float64)
    apart = np.stack([isolated(values, float(gamma)) for gamma in at])  # [thresholds, users]
    measured = ~np.isnan(leaks)
    left = (~apart & measured).sum(axis=1).astype(np.float64)
    sums = np.where(apart | ~measured, 0.0, leaks).sum(axis=1)
    nan = np.full(len(at), np.nan)
    return Curve(
        gammas=at,
        share=apart.mean(axis=1),
        storage=np.where(apart, sizes, 0.0).sum(axis=1),
        rest=np.divide(sums, left, out=nan.copy(), where=left > 0),
        total=sums / measured.sum() if measured.any() else nan,
    )


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise UserError(f"{name}: expected one number each, found an array of shape {array.shape}")
    if np.isnan(array).any():
        raise UserError(f"{name}: number {int(np.argmax(np.isnan(array)))} is NaN; measure it")
    return array


def _check_count(name: str, values: Sequence | np.ndarray, count: int) -> None:
    if len(values) != count:
        raise UserError(f"{len(values)} {name} and {count} strengths; give one for each user")
