"""How much of a source user's marks reaches other users, and how much its owner gets back.

Arrays are of [source, victim, probe]: detections D_u(y) of a mark of source u in the answer to a
probe of victim v, zeros and ones, NaN where a pair was not asked. `full` is of the system that
learnt from all users, `without` of the same with the source's conversations replaced. Paired
entries share victim, probe, seed and decoding.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from experiments.common.scores.comparisons import mcnemar
from experiments.common.scores.intervals import Interval
from experiments.persona_leakage.measures.resampling import Resampled, crossed_interval
from gdpo_jax.errors import UserError

__all__ = ["Flips", "flips", "own_detections", "paired", "paired_leakage", "pairs", "selectivity"]

Detections = Float[np.ndarray, "S V P"] | Bool[np.ndarray, "S V P"]


@dataclasses.dataclass(frozen=True)
class Flips:
    """What the source's conversations turned over.

    gained: pairs with D = 0 without and D = 1 with the source. lost: the reverse. rate: (gained -
    lost) / count. p_value: of McNemar's exact two-sided test, which takes pairs as independent; the
    interval over users does not.
    """

    gained: int
    lost: int
    count: int
    rate: float
    p_value: float


def paired(full: Detections, without: Detections) -> Float[np.ndarray, "S V P"]:
    """D_u(S_full) - D_u(S_-u) of every pair: -1, 0 or 1, NaN where either is.

    Raises UserError for arrays of two shapes, and entries that are no zeros and ones.
    """
    first, second = (np.asarray(side, np.float64) for side in (full, without))
    if first.shape != second.shape:
        raise UserError(
            f"detections with the source have shape {first.shape}, without it {second.shape}; ask "
            "both systems the same probes"
        )
    for name, side in (("with", first), ("without", second)):
        known = side[~np.isnan(side)]
        if (strange := known[(known != 0) & (known != 1)]).size:
            raise UserError(
                f"a detection {name} the source is {strange[0]:g}; give zeros and ones, and scores "
                "of style through a threshold"
            )
    return first - second


def paired_leakage(
    full: Detections,
    without: Detections,
    *,
    resample: Resampled = "both",
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean over sources, victims and probes of D_u(S_full) - D_u(S_-u), with its interval.

    Raises UserError as `paired` and `crossed_interval`.
    """
    options = {"resample": resample, "samples": samples, "level": level, "seed": seed}
    return crossed_interval(paired(full, without), **options)


def flips(full: Detections, without: Detections) -> Flips:
    """The flip form of the paired leakage. Raises UserError as `paired`, and for no pair."""
    gaps = paired(full, without)
    gained, lost = int((gaps == 1).sum()), int((gaps == -1).sum())
    count = int((~np.isnan(gaps)).sum())
    if not count:
        raise UserError("there is no pair with an answer of both systems")
    return Flips(gained, lost, count, (gained - lost) / count, mcnemar(lost, gained))


def pairs(values: Float[np.ndarray, "S V P"]) -> Float[np.ndarray, "S V"]:
    """Means over the probes of every source and victim; NaN where there is none."""
    known = ~np.isnan(values)
    counts = known.sum(axis=2)
    sums = np.where(known, values, 0.0).sum(axis=2)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def own_detections(
    found: Float[np.ndarray, "U N"] | Bool[np.ndarray, "U N"],
    users: Sequence[str],
    asked: Sequence[str],
) -> Float[np.ndarray, "U P"]:
    """Detections of the users' own marks in the answers to their own probes, filled up with NaN.

    Their mean is own-user recall, and `user_interval` gives its interval. found: D_u(y) of every
    user and answer. users: ids of its rows. asked: who asked for each answer.

    Raises UserError for a user who asked nothing.
    """
    places = [[n for n, name in enumerate(asked) if name == user] for user in users]
    for user, own in zip(users, places, strict=True):
        if not own:
            raise UserError(f"user {user!r} asked nothing; recall needs probes of every owner")
    table = np.full((len(users), max(map(len, places), default=0)), np.nan)
    for row, own in enumerate(places):
        table[row, : len(own)] = found[row, own]
    return table


def selectivity(own_recall: float, leakage: float) -> float:
    """Recall of the owners minus the paired leakage rate: 1 is a system that gives marks back to
    their owners alone, 0 one that forgets everyone or shows everyone's marks to all.
    """
    return own_recall - leakage
