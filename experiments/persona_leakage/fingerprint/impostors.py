"""The impostors method (Koppel and Winter, JASIST 65(1), 2014, section 5).

Round by round with a random part of the terms: is the unknown text more like the known ones than
like any of some impostors, texts by other authors? The score is the share of such rounds, here with
impostors drawn anew in every round. `V` terms, `C` texts of the cohort.
"""

import functools

import numpy as np
from jaxtyping import Float

from gdpo_jax.errors import UserError

__all__ = ["impostors_score"]


def impostors_score(
    known: Float[np.ndarray, "V"],
    unknown: Float[np.ndarray, "V"],
    cohort: Float[np.ndarray, "C V"],
    *,
    rounds: int = 50,
    impostors: int = 10,
    share: float = 0.5,
    seed: int = 0,
) -> float:
    """The share of rounds in which the known text beats all impostors drawn, ties 1/2.

    Similarities are cosines of the rows as they are given. seed: of the terms and impostors drawn;
    the same for every text, so that equal texts get equal scores.

    Raises UserError for fewer texts of the cohort than impostors.
    """
    if len(cohort) < impostors:
        raise UserError(f"the cohort has {len(cohort)} texts for {impostors} impostors a round")
    chosen, used, place = _draws(len(known), len(cohort), rounds, impostors, share, seed)
    # A cosine over some of the terms is a ratio of sums over them: all rounds are one product each.
    own = (chosen @ (known * unknown)) / _roots(chosen @ known**2)
    texts = cohort[used]
    others = (chosen @ (texts * unknown).T) / _roots(chosen @ (texts**2).T)
    best = np.take_along_axis(others, place, axis=1).max(axis=1)
    return float(np.mean(np.where(own == best, 0.5, own > best)))


@functools.lru_cache(maxsize=8)
def _draws(
    terms: int, texts: int, rounds: int, impostors: int, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The terms of each round as 0 and 1, the impostors that some round has, and the places of each
    round's among them. The same for all pairs of texts, so drawn once."""
    rng = np.random.default_rng(seed)
    size = max(1, round(share * terms))
    chosen = np.zeros((rounds, terms))
    for row in chosen:
        row[rng.choice(terms, size, replace=False)] = 1.0
    drawn = np.stack([rng.choice(texts, impostors, replace=False) for _ in range(rounds)])
    used, place = np.unique(drawn, return_inverse=True)
    return chosen, used, place.reshape(drawn.shape)


def _roots(squares: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squares, 1e-12))
