"""Measures of a gate that opens at a score: how often it opens for the wrong person, or stays shut
for the right one. It opens where the score is at least the threshold.

`G` genuine attempts, of owners, and `I` impostor attempts, of others. Definitions as in ISO/IEC
19795-1; the equal error rate is interpolated between neighbouring thresholds.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from experiments.persona_leakage.fingerprint.verification import c_at_1, checked
from gdpo_jax.errors import UserError

__all__ = [
    "Band",
    "abstain_band",
    "acceptance",
    "equal_error_rate",
    "false_acceptance_at",
    "threshold_for_acceptance",
    "trigger_precision",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
    """What a gate decides whose scores inside a band are no decision."""

    coverage: float  # share of attempts that are decided
    c_at_1: float
    false_acceptance: float  # share of all impostor attempts
    false_rejection: float  # share of all genuine attempts that are not let in, undecided or not


def acceptance(
    genuine: Float[np.ndarray, "G"], impostor: Float[np.ndarray, "I"], threshold: float
) -> tuple[float, float]:
    """False acceptance and false rejection rate at a threshold.

    Raises UserError without genuine or without impostor attempts.
    """
    genuine, impostor = _attempts(genuine, impostor)
    return float((impostor >= threshold).mean()), float((genuine < threshold).mean())


def equal_error_rate(genuine: Float[np.ndarray, "G"], impostor: Float[np.ndarray, "I"]) -> float:
    """The rate at which false acceptance equals false rejection, between the two neighbouring
    thresholds by linear interpolation. Raises UserError as `acceptance`."""
    genuine, impostor = _attempts(genuine, impostor)
    _, false, missed = _operating_points(genuine, impostor)
    behind = int(np.argmax(missed >= false))  # the last point has missed 1, false 0
    if behind == 0:
        return float(false[0])
    gap = (false - missed)[behind - 1 : behind + 1]
    share = gap[0] / (gap[0] - gap[1])
    return float(false[behind - 1] + share * (false[behind] - false[behind - 1]))


def false_acceptance_at(
    genuine: Float[np.ndarray, "G"], impostor: Float[np.ndarray, "I"], rejection: float
) -> float:
    """The lowest false acceptance rate of a threshold whose false rejection rate is at most
    `rejection`. Raises UserError as `acceptance`, and for a rate outside [0, 1]."""
    _check_share("rejection", rejection)
    genuine, impostor = _attempts(genuine, impostor)
    _, false, missed = _operating_points(genuine, impostor)
    return float(false[missed <= rejection].min())


def threshold_for_acceptance(impostor: Float[np.ndarray, "I"], acceptance: float) -> float:
    """The lowest threshold, of those between the scores, at which at most a share `acceptance` of
    the attempts is let in: to be taken from people who are neither enrolled nor reported on.

    Raises UserError for no attempts, and a share outside [0, 1].
    """
    _check_share("acceptance", acceptance)
    if not len(impostor):
        raise UserError("there are no impostor attempts; a threshold needs some")
    values = np.unique(impostor)[::-1]
    # Halfway to the next higher score, so that the threshold is not a score of those it came from.
    found = float(np.nextafter(values[0], np.inf))
    for position, value in enumerate(values):
        if (impostor >= value).mean() > acceptance:
            break
        below = values[position + 1] if position + 1 < len(values) else value
        found = float((value + below) / 2)
    return found


def trigger_precision(false_acceptance: float, false_rejection: float, share: float) -> float:
    """Of the texts that open the gate, how many are the owner's, if a share of all texts is:
    `s (1 - FRR) / (s (1 - FRR) + (1 - s) FAR)`; 0 where it never opens.

    Raises UserError for numbers outside [0, 1].
    """
    for name, value in {
        "false_acceptance": false_acceptance,
        "false_rejection": false_rejection,
        "share": share,
    }.items():
        _check_share(name, value)
    right = share * (1 - false_rejection)
    all_of_them = right + (1 - share) * false_acceptance
    return right / all_of_them if all_of_them else 0.0


def abstain_band(
    genuine: Float[np.ndarray, "G"],
    impostor: Float[np.ndarray, "I"],
    low: float,
    high: float,
) -> Band:
    """A gate that opens at `high`, refuses below `low` or at it, and decides nothing between.

    Raises UserError as `acceptance`, and unless 0 <= low <= high <= 1.
    """
    if not 0 <= low <= high <= 1:
        raise UserError(f"a band goes from low to high within [0, 1], got {low} to {high}")
    genuine, impostor = _attempts(genuine, impostor)
    scores = np.concatenate([genuine, impostor])
    same, _ = checked([1] * len(genuine) + [0] * len(impostor), scores)
    said = np.where(scores >= high, 1.0, np.where(scores <= low, 0.0, 0.5))
    return Band(
        coverage=float((said != 0.5).mean()),
        c_at_1=c_at_1(same, said),
        false_acceptance=float((impostor >= high).mean()),
        false_rejection=float((genuine < high).mean()),
    )


def _operating_points(
    genuine: np.ndarray, impostor: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds [T] in rising order, each score and one above all, with both rates [T]."""
    thresholds = np.append(np.unique(np.concatenate([genuine, impostor])), np.inf)
    false = 1 - np.searchsorted(np.sort(impostor), thresholds, side="left") / len(impostor)
    missed = np.searchsorted(np.sort(genuine), thresholds, side="left") / len(genuine)
    return thresholds, false, missed


def _attempts(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    genuine, impostor = np.asarray(genuine, np.float64), np.asarray(impostor, np.float64)
    for name, scores in {"genuine": genuine, "impostor": impostor}.items():
        if not len(scores):
            raise UserError(f"there are no {name} attempts; both kinds are needed")
        if not np.isfinite(scores).all():
            raise UserError(f"a score of a {name} attempt is not a finite number")
    return genuine, impostor


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"{name} must lie in [0, 1], got {value!r}")
