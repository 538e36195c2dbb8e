"""The baseline of PAN 2020: TF-IDF of character 4-grams, cosine, and two cut points.

As `clef20/authorship-verification` of pan-code (MIT) has it: at most 3,000 4-grams, similarities
between the cut points p1 and p2 become 0.5, below p1 they go to [0, 0.49], above p2 to [0.51, 1],
and the pair of the best overall score on the training problems is taken.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.persona_leakage.fingerprint.problems import Problem
from experiments.persona_leakage.fingerprint.verification import verify
from gdpo_jax.errors import UserError

__all__ = ["Baseline", "choose_points", "fit_baseline", "rescale", "similarities"]


@dataclasses.dataclass(frozen=True, eq=False)
class Baseline:
    """What counts and weighs 4-grams, and the two cut points."""

    vectorizer: Any
    p1: float
    p2: float


def fit_baseline(problems: Sequence[Problem]) -> Baseline:
    """Fits TF-IDF on the texts of the problems, and the cut points on their truth.

    Raises UserError without scikit-learn, for no problems, and one without truth.
    """
    if not problems or any(problem.same is None for problem in problems):
        raise UserError("the baseline needs problems, all with a truth")
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise UserError(
            "the baseline needs scikit-learn; pip install 'gdpo-jax[fingerprint]'"
        ) from None
    vectorizer = TfidfVectorizer(max_features=3000, analyzer="char", ngram_range=(4, 4))
    vectorizer.fit([text for p in problems for text in (" ".join(p.known), p.unknown)])
    same = np.array([int(bool(problem.same)) for problem in problems])
    return Baseline(vectorizer, *choose_points(similarities(vectorizer, problems), same))


def choose_points(
    found: Float[np.ndarray, "N"], same: Int[np.ndarray, "N"], *, grid: int = 100
) -> tuple[float, float]:
    """The cut points p1 < p2 of the best overall score (the mean of AUC, c@1, F0.5u and F1).

    grid: points tried between 0.01 and 0.99.
    """
    points = np.linspace(0.01, 0.99, grid)
    # Points with no similarity between them decide the same; both p1 and p2 may lie among them.
    group = np.searchsorted(np.sort(found), points)
    edge = np.append(True, group[1:] != group[:-1]) | np.append(group[1:] != group[:-1], True)
    tried = points[edge].tolist()
    best, chosen = -1.0, (tried[0], tried[-1])
    for first, p1 in enumerate(tried):
        for p2 in tried[first + 1 :]:
            score = verify(same, rescale(found, p1, p2)).pan20
            if score > best:
                best, chosen = score, (float(p1), float(p2))
    return chosen


def similarities(vectorizer: Any, problems: Sequence[Problem]) -> Float[np.ndarray, "N"]:
    """The cosine of the known texts of each problem, joined, and its unknown one."""
    known = vectorizer.transform([" ".join(problem.known) for problem in problems])
    unknown = vectorizer.transform([problem.unknown for problem in problems])
    # Rows have length one; rounding must not lead out of [0, 1].
    return np.clip(np.asarray(known.multiply(unknown).sum(axis=1)).ravel(), 0.0, 1.0)


def rescale(similarity: Float[np.ndarray, "N"], p1: float, p2: float) -> Float[np.ndarray, "N"]:
    """Similarities as scores: up to p1 in [0, 0.49], between 0.5, from p2 on in [0.51, 1].

    Raises UserError unless 0 < p1 < p2 < 1.
    """
    if not 0 < p1 < p2 < 1:
        raise UserError(f"cut points must be 0 < p1 < p2 < 1, got {p1} and {p2}")
    low = 0.49 * similarity / p1
    high = 0.51 + 0.49 * (similarity - p2) / (1 - p2)
    return np.where(similarity <= p1, low, np.where(similarity >= p2, high, 0.5))
