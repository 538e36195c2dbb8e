"""Style as frequencies of character n-grams: tone that moves to other users without any mark.

Embeddings are TF-IDF weights of character n-grams of 2 to 4 characters, rows of length 1 (the
features of the PAN baselines); distances are 1 - cosine. Needs scikit-learn (extra `fingerprint`).
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from experiments.common.scores.intervals import Interval
from experiments.persona_leakage.measures.resampling import user_interval
from gdpo_jax.errors import UserError

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

__all__ = [
    "Embed",
    "StyleShift",
    "missing_library",
    "style_distances",
    "style_embedding",
    "style_scores",
    "style_shift",
]

Embed = Callable[[Sequence[str]], Float[np.ndarray, "N F"]]


@dataclasses.dataclass(frozen=True)
class StyleShift:
    """Mean distances of answers to the same probes, with intervals over the users who asked.

    shift: between the system with and the system without the sources. seeds: between two seeds of
    the system without them. excess: shift minus seeds, of the same answers.
    """

    shift: Interval
    seeds: Interval
    excess: Interval


def missing_library() -> str:
    """What to install for styles; empty where it is there."""
    if importlib.util.find_spec("sklearn") is not None:
        return ""
    return "a style embedding needs scikit-learn; pip install 'gdpo-jax[fingerprint]'"


def style_embedding(texts: Sequence[str], *, features: int = 3000) -> Embed:
    """A function of texts that gives their embeddings, with n-grams and weights of these `texts`.

    features: at most so many n-grams, the most frequent ones. Raises UserError without
    scikit-learn, and for texts without two characters.
    """
    if missing := missing_library():
        raise UserError(missing)
    vectorizer = _vectorizer(features)
    try:
        vectorizer.fit(list(texts))
    except ValueError:
        raise UserError(
            f"{len(texts)} texts have no two characters to learn a style from; give some answers"
        ) from None

    def embed(found: Sequence[str]) -> Float[np.ndarray, "N F"]:
        if not len(found):
            return np.zeros((0, len(vectorizer.vocabulary_)))
        return vectorizer.transform(list(found)).toarray()

    return embed


def style_distances(
    first: Float[np.ndarray, "*N F"], second: Float[np.ndarray, "*N F"]
) -> Float[np.ndarray, "*N"]:
    """1 - cosine of embeddings, entry by entry: 0 of equal ones, 1 where one of two is zero.

    Two zero embeddings, as those of empty answers, are 0 apart.
    """
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    cosine = (first * second).sum(axis=-1) / np.where(norms > 0, norms, 1.0)
    same = (first == second).all(axis=-1)
    return np.where(same, 0.0, np.clip(1.0 - cosine, 0.0, 2.0))


def style_scores(
    profiles: Float[np.ndarray, "U F"], answers: Float[np.ndarray, "N F"]
) -> Float[np.ndarray, "U N"]:
    """How near each answer is to each profile, against the other profiles' mean.

    The cosine with the profile, such as the mean embedding of a user's answers, minus its mean over
    the other profiles; above a threshold (`detectors.threshold_at`) it is a style detector.
    Raises UserError for fewer than two profiles.
    """
    if len(profiles) < 2:
        raise UserError("a style is told from the styles of others; give at least two profiles")
    cosine = _rows(profiles) @ _rows(answers).T
    others = (cosine.sum(axis=0) - cosine) / (len(profiles) - 1)
    return cosine - others


def style_shift(
    full: Float[np.ndarray, "V P F"],
    without: Float[np.ndarray, "V P F"],
    other_seed: Float[np.ndarray, "V P F"],
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> StyleShift:
    """How far the sources move the style of answers to `V` users with `P` probes each.

    Embeddings of the answers of the system with the sources, without them, and without them from
    another seed. Raises UserError for arrays of different shapes.
    """
    if not full.shape == without.shape == other_seed.shape:
        raise UserError(
            f"embeddings of shapes {full.shape}, {without.shape} and {other_seed.shape}; ask all "
            "three systems the same probes"
        )
    options = {"samples": samples, "level": level, "seed": seed}
    moved, chance = style_distances(full, without), style_distances(without, other_seed)
    return StyleShift(
        shift=user_interval(moved, **options),
        seeds=user_interval(chance, **options),
        excess=user_interval(moved - chance, **options),
    )


def _rows(vectors: np.ndarray) -> np.ndarray:
    """The vectors at length 1; zeros stay."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1.0)


def _vectorizer(features: int) -> "TfidfVectorizer":
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer="char", ngram_range=(2, 4), max_features=features, sublinear_tf=True
    )
