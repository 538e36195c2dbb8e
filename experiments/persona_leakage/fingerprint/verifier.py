"""A calibrated verifier: the probability that a text is by the author of others.

The scorers are learnt on all texts but those of a fold, and score the problems of that fold; a
logistic regression for each level of length then turns such scores into probabilities (stacking:
Wolpert, 1992), so that it knows how far they can be trusted with texts that were not learnt from.
At last the scorers are learnt on all texts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.persona_leakage.fingerprint.corpus import corpus_of, folds_of, plain
from experiments.persona_leakage.fingerprint.encoder import EncoderOptions
from experiments.persona_leakage.fingerprint.features import Features, choose_features, count
from experiments.persona_leakage.fingerprint.gate import Gate, choose_gate
from experiments.persona_leakage.fingerprint.lengths import level_of, levels_for
from experiments.persona_leakage.fingerprint.problems import Problem
from experiments.persona_leakage.fingerprint.scorers import (
    SCORERS,
    Counted,
    Sample,
    Scorers,
    count_corpus,
    fit_scorers,
    fold_key,
    pair_scores,
)
from experiments.persona_leakage.fingerprint.verification import UNDECIDED, auc, c_at_1
from gdpo_jax.errors import UserError

__all__ = [
    "Fitted",
    "Verifier",
    "answer",
    "decided",
    "fit",
    "gate_at",
    "judge",
    "probability",
    "sample_of",
]

_ENCODER = EncoderOptions()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Verifier:
    """weights [L, 3], bias [L]: of the logistic regression at each level of length
    band: probabilities within it are answered with 0.5, no decision
    gates: at each level, what is accepted as an enrolled user's
    """

    features: Features
    scorers: Scorers
    weights: Float[np.ndarray, "L 3"]
    bias: Float[np.ndarray, "L"]
    band: tuple[float, float]
    gates: tuple[Gate, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A verifier, and what was found of the problems it was fitted on by scorers that had not seen
    them: scores [N, L, 3], and probabilities [N, L] of a calibration without their fold."""

    verifier: Verifier
    scores: Float[np.ndarray, "N L 3"]
    probabilities: Float[np.ndarray, "N L"]


def fit(
    problems: Sequence[Problem],
    *,
    folds: int = 5,
    acceptance: float = 0.05,
    seed: int = 0,
    encoder: EncoderOptions = _ENCODER,
) -> Fitted:
    """Fits a verifier on problems whose truth is known.

    folds: parts of the problems, each scored by what was learnt from the others
    acceptance: share of false acceptances at which gates are set, on problems not learnt from

    Raises UserError without scikit-learn, and for problems as `corpus_of`, `folds_of`,
    `fit_space` and `fit_encoder` need them.
    """
    regression = _logistic_regression()  # before anything is counted
    corpus = corpus_of(problems)
    same = np.array([bool(problem.same) for problem in problems])
    if same.all() or not same.any():
        raise UserError("the problems have one answer only; calibration needs both")
    rng = np.random.default_rng(seed)
    parts = folds_of(corpus.groups, count=folds, rng=rng)
    # Which terms are frequent tells nothing of who wrote what: chosen once, for all folds.
    features = choose_features(corpus.texts)
    counted = count_corpus(features, corpus.texts, levels_for(corpus.texts), rng=rng)
    place = {text: row for row, text in enumerate(corpus.texts)}
    scores = np.zeros((len(problems), len(counted.levels), len(SCORERS)))
    for number, part in enumerate(parts):
        rows = np.flatnonzero(~np.isin(corpus.groups, part))
        scorers = fit_scorers(
            features, counted, rows, corpus.authors[rows], fold_key(seed, number), encoder
        )
        for row in np.flatnonzero(np.isin(corpus.of_problem, part)):
            scores[row] = _at_levels(features, scorers, counted, place, problems[row])
    everything = np.arange(len(corpus.texts))
    scorers = fit_scorers(
        features, counted, everything, corpus.authors, fold_key(seed, folds), encoder
    )
    probabilities = np.zeros(scores.shape[:2])
    for part in parts:
        out = np.isin(corpus.of_problem, part)
        weights, bias = _calibrate(regression, scores[~out], same[~out])
        probabilities[out] = _sigmoid((scores[out] * weights).sum(axis=-1) + bias)
    weights, bias = _calibrate(regression, scores, same)
    band = choose_band(same.astype(np.int64), probabilities[:, -1])
    gates = tuple(
        choose_gate(found[same], found[~same], acceptance=acceptance) for found in probabilities.T
    )
    verifier = Verifier(
        features=features, scorers=scorers, weights=weights, bias=bias, band=band, gates=gates
    )
    return Fitted(verifier=verifier, scores=scores, probabilities=probabilities)


def sample_of(features: Features, texts: Sequence[str]) -> Sample:
    """The counts of texts of one author, taken together.

    Raises UserError for no texts, and where all are empty.
    """
    whole = [plain(text) for text in texts]
    characters = sum(map(len, whole))
    if not characters:
        raise UserError("there is no text to count; give at least one that is not empty")
    return Sample(counts=count(features, whole).sum(axis=0), characters=characters)


def judge(verifier: Verifier, known: Sample, unknown: Sample) -> tuple[np.ndarray, float]:
    """The scores [3] of `SCORERS`, and the probability that both samples are by one author."""
    scores = pair_scores(verifier.features, verifier.scorers, known, unknown)
    shorter = min(known.characters, unknown.characters)
    level = level_of(shorter, verifier.scorers.levels, verifier.scorers.typical)
    return scores, float(_sigmoid(scores @ verifier.weights[level] + verifier.bias[level]))


def probability(verifier: Verifier, known: Sample, unknown: Sample) -> float:
    """The probability that both samples are by one author."""
    return judge(verifier, known, unknown)[1]


def gate_at(verifier: Verifier, characters: int) -> Gate:
    """The gate for texts of so many characters."""
    return verifier.gates[level_of(characters, verifier.scorers.levels, verifier.scorers.typical)]


def answer(verifier: Verifier, problem: Problem) -> float:
    """The answer to a problem in PAN's form: the probability, or 0.5 where it is in the band."""
    known = sample_of(verifier.features, problem.known)
    found = probability(verifier, known, sample_of(verifier.features, [problem.unknown]))
    return float(decided(np.array([found]), verifier.band)[0])


def decided(
    probabilities: Float[np.ndarray, "N"], band: tuple[float, float]
) -> Float[np.ndarray, "N"]:
    """Probabilities, with exactly 0.5 for those within a band around it."""
    low, high = band
    inside = (probabilities > low) & (probabilities < high)
    return np.where(inside, UNDECIDED, probabilities)


def choose_band(same: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """The band around 0.5, as wide on both sides, of the best AUC times c@1; ties: the narrowest.

    What is left undecided counts as much as the share of right decisions (c@1), but ties cost AUC.
    """
    widths = np.linspace(0.0, 0.25, 26)
    worth = []
    for width in widths:
        said = decided(probabilities, (0.5 - width, 0.5 + width))
        worth.append(auc(same, said) * c_at_1(same, said))
    width = float(widths[int(np.argmax(worth))])
    return 0.5 - width, 0.5 + width


def _at_levels(
    features: Features,
    scorers: Scorers,
    counted: Counted,
    place: dict[str, int],
    problem: Problem,
) -> np.ndarray:
    """Scores [L, 3] of a problem whose unknown text is cut to each level."""
    rows = [place[plain(text)] for text in problem.known]
    known = Sample(
        counts=counted.at_level[-1][rows].sum(axis=0),
        characters=sum(len(plain(text)) for text in problem.known),
    )
    unknown, size = place[plain(problem.unknown)], len(plain(problem.unknown))
    found = []
    for number, level in enumerate(counted.levels):
        characters = size if level is None else min(level, size)
        sample = Sample(counts=counted.at_level[number][unknown], characters=characters)
        found.append(pair_scores(features, scorers, known, sample))
    return np.stack(found)


def _calibrate(
    regression: Any, scores: Float[np.ndarray, "N L 3"], same: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [L, 3] and bias [L] of scores as they are."""
    weights, biases = [], []
    for level in range(scores.shape[1]):
        part = scores[:, level]
        mean, deviation = part.mean(axis=0), np.maximum(part.std(axis=0), 1e-6)
        model = regression(C=0.1).fit((part - mean) / deviation, same)
        weights.append(model.coef_[0] / deviation)
        biases.append(model.intercept_[0] - weights[-1] @ mean)
    return np.stack(weights), np.array(biases)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))


def _logistic_regression() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise UserError(
            "a verifier needs scikit-learn; pip install 'gdpo-jax[fingerprint]'"
        ) from None
    return LogisticRegression
