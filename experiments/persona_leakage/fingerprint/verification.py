"""Measures of authorship verification as the PAN evaluator computes them.

Scores lie in [0, 1]; exactly 0.5 means "no decision". Definitions follow the evaluator of PAN 2022
(pan-code, MIT), `clef22/authorship-verification/pan22_verif_evaluator.py`; a measure whose
denominator is 0 is 0. `N` problems.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from experiments.common.scores.discrimination import area_under_curve
from gdpo_jax.errors import UserError

__all__ = ["Verification", "align", "auc", "brier", "c_at_1", "f05u", "f1", "intervals", "verify"]

UNDECIDED = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """The five measures of one system; `count` problems, `undecided` of them at exactly 0.5."""

    auc: float
    c_at_1: float
    f05u: float
    f1: float
    brier: float
    count: int
    undecided: int

    @property
    def pan14(self) -> float:
        """AUC times c@1, the final score of PAN 2014."""
        return self.auc * self.c_at_1

    @property
    def pan20(self) -> float:
        """The mean of AUC, c@1, F0.5u and F1."""
        return (self.auc + self.c_at_1 + self.f05u + self.f1) / 4

    @property
    def pan22(self) -> float:
        """The mean of all five."""
        return (self.auc + self.c_at_1 + self.f05u + self.f1 + self.brier) / 5


def verify(
    same: Sequence[bool] | Int[np.ndarray, "N"],
    scores: Sequence[float] | Float[np.ndarray, "N"],
    *,
    undecided_positive: bool = False,
) -> Verification:
    """All measures of `scores` against the truth, 1 where both texts are by one author.

    undecided_positive: F0.5u counts 0.5 as a decision for "same author", as the evaluator behind
        the published figures of PAN 2020 does.

    Raises UserError for no problems, other lengths, a truth that is not 0 or 1, and scores outside
    [0, 1].
    """
    truth, given = checked(same, scores)
    return Verification(
        auc=auc(truth, given),
        c_at_1=c_at_1(truth, given),
        f05u=f05u(truth, given, undecided_positive=undecided_positive),
        f1=f1(truth, given),
        brier=brier(truth, given),
        count=len(truth),
        undecided=int((given == UNDECIDED).sum()),
    )


def auc(same: Int[np.ndarray, "N"], scores: Float[np.ndarray, "N"]) -> float:
    """The probability that a pair by one author scores above one by two, ties 1/2."""
    area = area_under_curve(scores, same == 1)
    return 0.0 if math.isnan(area) else area


def c_at_1(same: Int[np.ndarray, "N"], scores: Float[np.ndarray, "N"]) -> float:
    """Accuracy that gives undecided problems the share of correct decisions (Peñas and Rodrigo,
    2011): `(n_c + n_u n_c / n) / n`."""
    count = len(same)
    undecided = int((scores == UNDECIDED).sum())
    correct = int(((scores > UNDECIDED) == (same == 1))[scores != UNDECIDED].sum())
    return (correct + undecided * correct / count) / count


def f05u(
    same: Int[np.ndarray, "N"],
    scores: Float[np.ndarray, "N"],
    *,
    undecided_positive: bool = False,
) -> float:
    """F0.5 whose undecided problems count as false negatives (Bevendorff et al., NAACL 2019):
    `1.25 TP / (1.25 TP + 0.25 (FN + U) + FP)`."""
    said = scores >= UNDECIDED if undecided_positive else scores > UNDECIDED
    undecided = 0 if undecided_positive else int((scores == UNDECIDED).sum())
    hits = int((said & (same == 1)).sum())
    misses = int(((scores < UNDECIDED) & (same == 1)).sum())
    false = int((said & (same == 0)).sum())
    return _ratio(1.25 * hits, 1.25 * hits + 0.25 * (misses + undecided) + false)


def f1(same: Int[np.ndarray, "N"], scores: Float[np.ndarray, "N"]) -> float:
    """F1 of "same author" among the decided problems."""
    hits = int(((scores > UNDECIDED) & (same == 1)).sum())
    misses = int(((scores < UNDECIDED) & (same == 1)).sum())
    false = int(((scores > UNDECIDED) & (same == 0)).sum())
    return _ratio(2.0 * hits, 2.0 * hits + misses + false)


def brier(same: Int[np.ndarray, "N"], scores: Float[np.ndarray, "N"]) -> float:
    """One minus the Brier score: `1 - mean((p - y)^2)`."""
    return float(1.0 - np.mean((scores - same) ** 2))


def align(truth: Mapping[str, bool], answers: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Truth [N] and answers [N] in the order of the truth's names; an absent answer is 0.5.

    Raises UserError for an answer to a problem that the truth does not have.
    """
    if strange := sorted(set(answers) - set(truth)):
        raise UserError(f"answer to {strange[0]!r}, which is no problem of the truth; leave it out")
    given = [answers.get(name, UNDECIDED) for name in truth]
    return np.array(list(truth.values()), dtype=np.int64), np.array(given, dtype=np.float64)


def intervals(
    same: Int[np.ndarray, "N"],
    scores: Sequence[Float[np.ndarray, "N"]],
    measure: Callable[..., float],
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `measure(same, *scores)` over problems.

    Several systems' scores are drawn together, so that a measure may be their difference.
    """
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(samples):
        rows = rng.integers(len(same), size=len(same))
        draws.append(measure(same[rows], *(column[rows] for column in scores)))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(low), float(high)


def checked(
    same: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Truth as int64 [N] and scores as float64 [N]. Raises UserError as `verify` does."""
    truth, given = np.asarray(same), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or given.shape != truth.shape:
        raise UserError(
            f"truth and scores must be one entry a problem, got {truth.shape} and {given.shape}"
        )
    if not len(truth):
        raise UserError("there are no problems to measure")
    truth = truth.astype(np.float64)
    if strange := truth[(truth != 0) & (truth != 1)].tolist():
        raise UserError(f"the truth holds {strange[0]:g}; it is 1 for the same author, else 0")
    if strange := given[~((given >= 0) & (given <= 1))].tolist():
        raise UserError(f"a score is {strange[0]:g}; scores lie in [0, 1]")
    return truth.astype(np.int64), given


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
