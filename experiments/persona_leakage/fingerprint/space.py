"""A space of styles, in which texts of one author lie close, learnt from texts with authors.

For each view of the features: proportions are standardised, reduced to their principal components,
and whitened by the covariance within authors, so that directions in which one author's texts
differ (subject, kind of text) count little (within-class covariance normalisation: Hatch, Kajarekar
and Stolcke, Interspeech 2006). A similarity is a cosine there. What it means depends on the texts:
it is compared with those of other authors' texts, the cohort, of about the same length (symmetric
score normalisation: Kenny, Odyssey 2010, as impostors for authors: Koppel and Winter, 2014).
`T` texts, `V` terms, `W` views, `D` dimensions, `C` texts of the cohort.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from experiments.persona_leakage.fingerprint.features import Features, proportions
from gdpo_jax.errors import UserError

__all__ = ["Space", "embed", "fit_space", "normalised", "standardise", "within_covariance"]

_FARTHEST = 4.0  # standard deviations: a rare term in a short text is not evidence without end


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """mean, deviation [V]: of proportions; axes: of each view, whitened components [columns, D]."""

    mean: Float[np.ndarray, "V"]
    deviation: Float[np.ndarray, "V"]
    axes: tuple[Float[np.ndarray, "columns D"], ...]


def fit_space(
    features: Features,
    counts: Float[np.ndarray, "T V"],
    authors: Int[np.ndarray, "T"],
    *,
    dimensions: int = 150,
    shrinkage: float = 0.1,
) -> Space:
    """Learns the space of texts by known authors.

    dimensions: principal components of each view, at most what its texts have
    shrinkage: share of the covariance within authors that is replaced by a multiple of the identity

    Raises UserError where no author has two texts.
    """
    rooted = proportions(features, counts).astype(np.float64)
    mean, deviation = rooted.mean(axis=0), rooted.std(axis=0)
    deviation = np.where(deviation > 1e-6, deviation, 1.0)  # a term that never varies says nothing
    space = Space(mean=mean, deviation=deviation, axes=())
    standard = standardise(features, space, counts)
    axes = []
    for _, columns in features.slices():
        part = standard[:, columns]
        size = min(dimensions, part.shape[1], len(part) - 1)
        components = _components(part, size)
        within = within_covariance(part @ components, authors)
        even = np.trace(within) / size * np.eye(size)
        values, vectors = np.linalg.eigh((1 - shrinkage) * within + shrinkage * even)
        axes.append(components @ (vectors / np.sqrt(values)))
    return dataclasses.replace(space, axes=tuple(axes))


def within_covariance(
    rows: Float[np.ndarray, "T D"], authors: Int[np.ndarray, "T"]
) -> Float[np.ndarray, "D D"]:
    """The covariance of texts around the mean of their author, over authors with two or more.

    Raises UserError where there is none.
    """
    _, index, sizes = np.unique(authors, return_inverse=True, return_counts=True)
    means = np.zeros((len(sizes), rows.shape[1]))
    np.add.at(means, index, rows)
    centred = (rows - (means / sizes[:, None])[index])[sizes[index] > 1]
    freedom = int((sizes[sizes > 1] - 1).sum())
    if not freedom:
        raise UserError("no author has two texts; what is alike in one's texts cannot be learnt")
    return centred.T @ centred / freedom


def standardise(
    features: Features, space: Space, counts: Float[np.ndarray, "*T V"]
) -> Float[np.ndarray, "*T V"]:
    """Proportions in standard deviations from the mean, cut off at four."""
    rooted = proportions(features, counts)
    return np.clip((rooted - space.mean) / space.deviation, -_FARTHEST, _FARTHEST)


def embed(
    features: Features, space: Space, counts: Float[np.ndarray, "*T V"]
) -> Float[np.ndarray, "*T W D"]:
    """Unit vectors of texts in each view; shorter ones are filled up with zeros."""
    standard = standardise(features, space, counts)
    width = max(axes.shape[1] for axes in space.axes)
    parts = []
    for (_, columns), axes in zip(features.slices(), space.axes, strict=True):
        part = unit(standard[..., columns] @ axes)
        wider = [(0, 0)] * (part.ndim - 1) + [(0, width - part.shape[-1])]
        parts.append(np.pad(part, wider))
    return np.stack(parts, axis=-2)


def normalised(
    known: Float[np.ndarray, "*W D"],
    unknown: Float[np.ndarray, "*W D"],
    like_known: Float[np.ndarray, "C *W D"],
    like_unknown: Float[np.ndarray, "C *W D"],
) -> Float[np.ndarray, "*W"]:
    """Cosine of known and unknown text in deviations above that of either with the cohort.

    like_known, like_unknown: the cohort's texts, about as long as the known and the unknown ones.
    """
    similarity = (known * unknown).sum(axis=-1)
    to_unknown = (like_known * unknown).sum(axis=-1)
    to_known = (like_unknown * known).sum(axis=-1)
    return _above(similarity, to_unknown) + _above(similarity, to_known)


def unit(rows: Float[np.ndarray, "*T D"]) -> Float[np.ndarray, "*T D"]:
    """The rows with length one; 0 stays 0."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths > 1e-9, lengths, 1.0)


def _above(value: np.ndarray, others: np.ndarray) -> np.ndarray:
    return (value - others.mean(axis=0)) / np.maximum(others.std(axis=0), 1e-6)


def _components(rows: np.ndarray, size: int) -> np.ndarray:
    """The first principal axes [columns, size] of centred rows, from the smaller product."""
    rows = rows - rows.mean(axis=0)
    if rows.shape[1] <= len(rows):
        return np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :size]
    values, vectors = np.linalg.eigh(rows @ rows.T)
    values, vectors = values[::-1][:size], vectors[:, ::-1][:, :size]
    return rows.T @ (vectors / np.sqrt(np.maximum(values, 1e-9)))
