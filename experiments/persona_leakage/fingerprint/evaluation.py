"""What a verifier is worth as a key: beside the baseline, on short texts, and when attacked."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from experiments.persona_leakage.fingerprint.activation import (
    abstain_band,
    acceptance,
    equal_error_rate,
    false_acceptance_at,
    trigger_precision,
)
from experiments.persona_leakage.fingerprint.baseline import (
    Baseline,
    choose_points,
    rescale,
    similarities,
)
from experiments.persona_leakage.fingerprint.corpus import plain
from experiments.persona_leakage.fingerprint.gate import Gate
from experiments.persona_leakage.fingerprint.lengths import cut
from experiments.persona_leakage.fingerprint.problems import Problem
from experiments.persona_leakage.fingerprint.scorers import SCORERS, Sample
from experiments.persona_leakage.fingerprint.verification import (
    Verification,
    auc,
    c_at_1,
    intervals,
    verify,
)
from experiments.persona_leakage.fingerprint.verifier import (
    Verifier,
    judge,
    sample_of,
)

__all__ = [
    "LENGTHS",
    "RATES",
    "Activation",
    "Alone",
    "Compared",
    "activation",
    "alone",
    "baseline_answers",
    "compare",
    "judged",
    "known_samples",
    "probabilities",
    "product",
    "seen_in",
]

LENGTHS = (None, 500, 280, 140)  # characters of the unknown text; None: as it is
RATES = (0.5, 0.1, 0.01)  # shares of genuine texts at which trigger precision is stated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """A verifier and the baseline on the same problems; intervals of AUC times c@1 over problems,
    and of what the verifier has more of it."""

    verifier: Verification
    baseline: Verification
    verifier_interval: tuple[float, float]
    baseline_interval: tuple[float, float]
    gain: float
    gain_interval: tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alone:
    """AUC of each of `SCORERS` by itself, and what training adds: the encoder's minus that of the
    space it starts as, with its interval over problems."""

    aucs: tuple[float, ...]
    trained: float
    trained_interval: tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Activation:
    """A gate that was chosen on other people. precisions: at each of `RATES`."""

    equal_error_rate: float
    false_acceptance_at_tenth: float  # at a false rejection of at most 0.1
    false_acceptance: float
    false_rejection: float
    precisions: tuple[float, ...]
    coverage: float
    c_at_1: float


def product(same: np.ndarray, scores: np.ndarray) -> float:
    """AUC times c@1, the final score of PAN 2014."""
    return auc(same, scores) * c_at_1(same, scores)


def known_samples(verifier: Verifier, problems: Sequence[Problem]) -> list[Sample]:
    """The known texts of each problem, counted once for all that they are compared with."""
    return [sample_of(verifier.features, problem.known) for problem in problems]


def judged(
    verifier: Verifier, known: Sequence[Sample], unknown: Sequence[str]
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N"]]:
    """The scores of `SCORERS` for each pair, and its probability of one author, without a band."""
    scores, found = zip(
        *(
            judge(verifier, sample, sample_of(verifier.features, [text]))
            for sample, text in zip(known, unknown, strict=True)
        ),
        strict=True,
    )
    return np.stack(scores), np.array(found)


def probabilities(
    verifier: Verifier, known: Sequence[Sample], unknown: Sequence[str]
) -> Float[np.ndarray, "N"]:
    """The probability of one author for each pair, without a band."""
    return judged(verifier, known, unknown)[1]


def baseline_answers(
    baseline: Baseline,
    training: Sequence[Problem],
    problems: Sequence[Problem],
    length: int | None,
) -> Float[np.ndarray, "N"]:
    """Answers of the baseline where unknown texts are cut to a length; its cut points are chosen on
    training problems that are cut as well."""

    def found(some: Sequence[Problem]) -> np.ndarray:
        short = [dataclasses.replace(p, unknown=cut(p.unknown, length)) for p in some]
        return similarities(baseline.vectorizer, short)

    same = np.array([int(bool(problem.same)) for problem in training])
    return rescale(found(problems), *choose_points(found(training), same))


def seen_in(training: Sequence[Problem], problems: Sequence[Problem]) -> Bool[np.ndarray, "N"]:
    """Which problems share a text with the training problems: PAN 2014's English essays have some
    in both parts, whose authors a verifier has learnt from."""
    learnt = {plain(text) for p in training for text in (*p.known, p.unknown)}
    return np.array(
        [any(plain(text) in learnt for text in (*p.known, p.unknown)) for p in problems]
    )


def compare(
    same: np.ndarray,
    found: Float[np.ndarray, "N"],
    baseline: Float[np.ndarray, "N"],
    *,
    samples: int = 2000,
    seed: int = 0,
) -> Compared:
    """Answers of the verifier, 0.5 within its band, beside those of the baseline."""

    def interval(measure: Callable[..., float], *scores: np.ndarray) -> tuple[float, float]:
        return intervals(same, scores, measure, samples=samples, seed=seed)

    return Compared(
        verifier=verify(same, found),
        baseline=verify(same, baseline),
        verifier_interval=interval(product, found),
        baseline_interval=interval(product, baseline),
        gain=product(same, found) - product(same, baseline),
        gain_interval=interval(lambda y, p, q: product(y, p) - product(y, q), found, baseline),
    )


def alone(
    same: np.ndarray, scores: Float[np.ndarray, "N 3"], *, samples: int = 2000, seed: int = 0
) -> Alone:
    """Each scorer by itself, and the encoder beside the space."""
    aucs = tuple(auc(same, column) for column in scores.T)
    space, encoder = (SCORERS.index(name) for name in ("space", "encoder"))
    return Alone(
        aucs=aucs,
        trained=aucs[encoder] - aucs[space],
        trained_interval=intervals(
            same,
            (scores[:, encoder], scores[:, space]),
            lambda y, p, q: auc(y, p) - auc(y, q),
            samples=samples,
            seed=seed,
        ),
    )


def activation(same: np.ndarray, found: Float[np.ndarray, "N"], gate: Gate) -> Activation:
    """Rates of the gate on probabilities of other problems."""
    genuine, impostor = found[same == 1], found[same == 0]
    false, missed = acceptance(genuine, impostor, gate.threshold)
    band = abstain_band(genuine, impostor, gate.abstain, min(gate.threshold, 1.0))
    return Activation(
        equal_error_rate=equal_error_rate(genuine, impostor),
        false_acceptance_at_tenth=false_acceptance_at(genuine, impostor, 0.1),
        false_acceptance=false,
        false_rejection=missed,
        precisions=tuple(trigger_precision(false, missed, rate) for rate in RATES),
        coverage=band.coverage,
        c_at_1=band.c_at_1,
    )
