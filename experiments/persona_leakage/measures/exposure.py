"""How far a random secret that was inserted stands out among the candidates of its format.

    exposure = log2 |R| - log2 rank        The Secret Sharer (arXiv 1802.08232), section 4.2

The rank is that of the inserted secret among all candidates R by log-probability, 1 the likeliest.
Candidates that are equally likely share the mean of what their ranks would give, so that a model
that tells none apart has the exposure of a random rank, and not the largest.
"""

import math

import numpy as np
from jaxtyping import Float, Int

from gdpo_jax.errors import UserError

__all__ = ["expected_exposure", "exposures", "largest_exposure"]


def exposures(
    log_probs: Float[np.ndarray, "C R"], planted: Int[np.ndarray, "C"]
) -> Float[np.ndarray, "C"]:
    """The exposure in bits of candidate `planted` of each of `C` secrets among its `R` candidates.

    log_probs: of all candidates, the inserted one included. Raises UserError for a place that is
    no candidate and for log-probs that are NaN.
    """
    log_probs = np.asarray(log_probs, np.float64)
    if not log_probs.shape[1] or ((planted < 0) | (planted >= log_probs.shape[1])).any():
        raise UserError(f"a secret's place is not one of its {log_probs.shape[1]} candidates")
    if np.isnan(log_probs).any():
        raise UserError("a candidate has no log-probability; score all of them")
    own = np.take_along_axis(log_probs, planted[:, None], axis=1)
    likelier = (log_probs > own).sum(axis=1)
    tied = (log_probs == own).sum(axis=1)
    # The sum of log2 over the ranks first to last is a difference of running sums.
    logs = np.concatenate([[0.0], np.cumsum(np.log2(np.arange(1, log_probs.shape[1] + 1)))])
    mean_log_rank = (logs[likelier + tied] - logs[likelier]) / tied
    return math.log2(log_probs.shape[1]) - mean_log_rank


def expected_exposure(num_candidates: int) -> float:
    """The mean exposure of a rank that is uniform over the candidates: log2 e = 1.44 bits of many.

    (log2 R - log2(R!) / R.) Raises UserError for no candidates.
    """
    _check(num_candidates)
    return math.log2(num_candidates) - math.lgamma(num_candidates + 1) / (
        math.log(2.0) * num_candidates
    )


def largest_exposure(num_candidates: int) -> float:
    """The exposure of the likeliest of so many candidates: log2 R bits."""
    _check(num_candidates)
    return math.log2(num_candidates)


def _check(num_candidates: int) -> None:
    if num_candidates < 1:
        raise UserError(f"{num_candidates} candidates; exposure needs at least one")
