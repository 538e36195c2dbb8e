"""Intervals over users: answers of one user, or to one user, are not independent of each other.

A value of one user is resampled with that user. A value of a source and a victim depends on both,
so that sources and victims are resampled apart and a cell counts as often as the product of the
two draws (A. Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007).
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from experiments.common.scores.intervals import (
    Interval,
    check_options,
    percentiles,
    resampled_means,
)
from gdpo_jax.errors import UserError

__all__ = ["Resampled", "by_user", "crossed_interval", "user_interval"]

Resampled = Literal["both", "sources", "victims"]
_CHUNK = 500  # resamples at a time


def by_user(values: Sequence[float], users: Sequence[str]) -> Float[np.ndarray, "U N"]:
    """Values in a row for each user, as they come, filled up with NaN.

    users: whose each value is. Raises UserError for no values, and lists of two lengths.
    """
    if not values or len(values) != len(users):
        raise UserError(f"{len(values)} values of {len(users)} users; give one user for each value")
    own: dict[str, list[float]] = {}
    for value, user in zip(values, users, strict=True):
        own.setdefault(user, []).append(float(value))
    table = np.full((len(own), max(map(len, own.values()))), np.nan)
    for row, found in enumerate(own.values()):
        table[row, : len(found)] = found
    return table


def user_interval(
    values: Float[np.ndarray, "U N"], *, samples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """The mean of all entries, with a percentile interval of resampled users; NaN is left out.

    Raises UserError for values that are all NaN, and bad options.
    """
    check_options(samples, level)
    known = ~np.isnan(values)
    if not known.any():
        raise UserError("there are no values of any user to take a mean of")
    users, _ = np.nonzero(known)
    column = values[known].astype(np.float64)[:, None]
    means, draws = resampled_means(column, [str(u) for u in users], samples=samples, seed=seed)
    low, high = percentiles(draws, level)
    return Interval(float(means[0]), float(low[0]), float(high[0]), int(known.sum()))


def crossed_interval(
    values: Float[np.ndarray, "S V P"],
    *,
    resample: Resampled = "both",
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of entries of sources, victims and probes, with a percentile interval.

    NaN is left out. resample: whose draw the interval is over; "both" speaks of new sources and new
    victims, the others of new ones of that side alone. Probes stay with their pair.

    Raises UserError for values that are all NaN, and bad options.
    """
    check_options(samples, level)
    if resample not in get_args(Resampled):
        raise UserError(f"resample={resample!r}; legal: {', '.join(get_args(Resampled))}")
    known = ~np.isnan(values)
    count = int(known.sum())
    if not count:
        raise UserError("there are no values of any pair to take a mean of")
    sums, counts = np.nansum(values, axis=2, dtype=np.float64), known.sum(axis=2)
    rng = np.random.default_rng(seed)
    num_sources, num_victims = sums.shape
    draws = []
    for first in range(0, samples, _CHUNK):
        size = min(_CHUNK, samples - first)
        sources = _weights(rng, size, num_sources, drawn=resample != "victims")
        victims = _weights(rng, size, num_victims, drawn=resample != "sources")
        total = ((sources @ sums) * victims).sum(axis=1)
        weight = ((sources @ counts) * victims).sum(axis=1)
        draws.append(np.where(weight > 0, total / np.maximum(weight, 1.0), math.nan))
    low, high = percentiles(np.concatenate(draws)[:, None], level)
    return Interval(float(sums.sum() / count), float(low[0]), float(high[0]), count)


def _weights(rng: np.random.Generator, size: int, num: int, *, drawn: bool) -> np.ndarray:
    if not drawn:
        return np.ones((size, num))
    return rng.multinomial(num, np.full(num, 1.0 / num), size=size).astype(np.float64)
