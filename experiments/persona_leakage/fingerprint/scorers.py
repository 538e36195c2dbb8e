"""Scores of a pair of texts before calibration, by three methods: the scorers.

"space": symmetric cosines of each view in the whitened space, averaged over views; "encoder": the
same in the space whose axes the contrastive encoder trained; "impostors": the impostors method
among the axes of the whitened space.
`T` texts, `P` pieces of each, `V` terms, `L` levels of length, `C` texts of the cohort, `W` views,
`D` dimensions.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from experiments.persona_leakage.fingerprint.corpus import plain
from experiments.persona_leakage.fingerprint.encoder import EncoderOptions, fit_encoder
from experiments.persona_leakage.fingerprint.features import Features, count
from experiments.persona_leakage.fingerprint.impostors import impostors_score
from experiments.persona_leakage.fingerprint.lengths import Level, cut, level_of
from experiments.persona_leakage.fingerprint.space import (
    Space,
    embed,
    fit_space,
    normalised,
    standardise,
)

__all__ = [
    "SCORERS",
    "Counted",
    "Sample",
    "Scorers",
    "count_corpus",
    "fit_scorers",
    "fold_key",
    "pair_scores",
]

SCORERS = ("space", "encoder", "impostors")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Counted:
    """What is counted of a corpus once, for all folds.

    at_level [L, T, V]: of each text's beginning; pieces [T, P, V]: of random stretches of it
    typical: the median number of characters of a whole text
    """

    levels: tuple[Level, ...]
    at_level: Float[np.ndarray, "L T V"]
    pieces: Float[np.ndarray, "T P V"]
    typical: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Counts of one or more texts of one author taken together, and their characters."""

    counts: Float[np.ndarray, "V"]
    characters: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scorers:
    """What the scorers learnt; the cohort stands in both spaces at every level of length."""

    space: Space
    encoder: Space
    levels: tuple[Level, ...]
    typical: float
    embedded: Float[np.ndarray, "L C W D"]
    encoded: Float[np.ndarray, "L C W D"]


def count_corpus(
    features: Features,
    texts: Sequence[str],
    levels: tuple[Level, ...],
    *,
    pieces: int = 4,
    rng: np.random.Generator,
) -> Counted:
    """Counts the beginnings of texts at each level, and random stretches of 300 characters or more.

    The first piece is the whole text.
    """
    at_level = np.stack([count(features, [cut(text, level) for text in texts]) for level in levels])
    drawn = [[text, *(_stretch(text, rng) for _ in range(pieces - 1))] for text in texts]
    flat = count(features, [piece for row in drawn for piece in row])
    return Counted(
        levels=levels,
        at_level=at_level,
        pieces=flat.reshape(len(texts), pieces, -1),
        typical=float(np.median([len(plain(text)) for text in texts])),
    )


def fit_scorers(
    features: Features,
    counted: Counted,
    rows: Int[np.ndarray, "T"],
    authors: Int[np.ndarray, "T"],
    key: Key[Array, ""],
    options: EncoderOptions,
) -> Scorers:
    """Learns space and encoder from the counted texts at `rows`, which are also the cohort.

    key: is consumed. Raises UserError as `fit_space` and `fit_encoder`.
    """
    space = fit_space(features, counted.at_level[-1][rows], authors)
    pieces = standardise(features, space, counted.pieces[rows]).astype(np.float32)
    encoder = fit_encoder(features, space, pieces, authors, key, options)
    cohort = counted.at_level[:, rows]
    return Scorers(
        space=space,
        encoder=encoder,
        levels=counted.levels,
        typical=counted.typical,
        embedded=embed(features, space, cohort).astype(np.float32),
        encoded=embed(features, encoder, cohort).astype(np.float32),
    )


def pair_scores(features: Features, scorers: Scorers, known: Sample, unknown: Sample) -> np.ndarray:
    """The scores [3] of `SCORERS` for one pair; higher is more likely one author."""
    both = np.stack([known.counts, unknown.counts])
    embedded = embed(features, scorers.space, both)
    encoded = embed(features, scorers.encoder, both)
    of_known, of_unknown = (
        level_of(sample.characters, scorers.levels, scorers.typical) for sample in (known, unknown)
    )
    of_views = normalised(*embedded, scorers.embedded[of_known], scorers.embedded[of_unknown])
    of_encoder = normalised(*encoded, scorers.encoded[of_known], scorers.encoded[of_unknown])
    share = impostors_score(
        *embedded.reshape(2, -1),
        scorers.embedded[of_known].reshape(scorers.embedded.shape[1], -1),
        impostors=min(10, scorers.embedded.shape[1]),
    )
    return np.array([of_views.mean(), of_encoder.mean(), share])


def _stretch(text: str, rng: np.random.Generator) -> str:
    text = plain(text)
    shortest = min(300, len(text))
    size = int(rng.integers(shortest, len(text) + 1))
    start = int(rng.integers(0, len(text) - size + 1))
    return text[start : start + size]


def fold_key(seed: int, fold: int) -> Key[Array, ""]:
    """The key of a fold's encoder."""
    return jax.random.fold_in(jax.random.key(seed), fold)
