"""Personalisation strength g_u: how much a user's history changes what the model says to him.

Spec of the project, section 4.1: the divergence KL(pi(. | x, H_u), pi(. | x)) per token, mean over
probes, or how much oftener his marks come back than by chance.
"""

import numpy as np
from jaxtyping import Bool, Float

from gdpo_jax.errors import UserError

__all__ = ["kl_per_token", "recall_strength", "sampled_kl_per_token"]


def kl_per_token(
    with_history: Float[np.ndarray, "U P T K"],
    without: Float[np.ndarray, "U P T K"],
    mask: Bool[np.ndarray, "U P T"],
) -> Float[np.ndarray, "U"]:
    """KL in nats between the next-token distributions with and without a user's history.

    Log-probs over a vocabulary of `K` at `T` positions of `P` probes, each normalised. Mean over a
    probe's positions in `mask`, then over the user's probes; NaN of a user without any.

    Raises UserError for shapes that do not fit, and log-probs that are not normalised.
    """
    if with_history.shape != without.shape or mask.shape != with_history.shape[:-1]:
        raise UserError(
            f"log-probs of shapes {with_history.shape} and {without.shape} with a mask "
            f"{mask.shape}; give [user, probe, token, vocabulary] twice and [user, probe, token]"
        )
    first = with_history.astype(np.float64)
    probs = np.exp(first)
    if mask.any() and not np.allclose(probs.sum(axis=-1)[mask], 1.0, atol=1e-3):
        raise UserError("log-probs of the vocabulary do not sum to one; normalise them first")
    with np.errstate(invalid="ignore"):
        # What has no probability with the history adds nothing, whatever it has without it.
        terms = np.where(probs > 0, probs * (first - without.astype(np.float64)), 0.0)
    return _of_users(terms.sum(axis=-1), mask)


def sampled_kl_per_token(
    with_history: Float[np.ndarray, "U P T"],
    without: Float[np.ndarray, "U P T"],
    mask: Bool[np.ndarray, "U P T"],
) -> Float[np.ndarray, "U"]:
    """The same estimated from answers that were drawn with the history, at temperature 1.

    Log-probs of the drawn tokens under both. One estimate may be below zero; its mean is not.
    Raises UserError for shapes that do not fit.
    """
    if not with_history.shape == without.shape == mask.shape:
        raise UserError(
            f"log-probs of shapes {with_history.shape} and {without.shape} with a mask "
            f"{mask.shape}; give [user, probe, token] three times"
        )
    return _of_users(with_history.astype(np.float64) - without.astype(np.float64), mask)


def recall_strength(
    recall: Float[np.ndarray, "U"], base_rate: Float[np.ndarray, "U"]
) -> Float[np.ndarray, "U"]:
    """How much oftener a user's marks come back to him than a model that never saw him has them."""
    return recall - base_rate


def _of_users(terms: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Means over the masked tokens of a probe, then over a user's probes that have any."""
    lengths = mask.sum(axis=-1)
    of_probes = np.where(mask, terms, 0.0).sum(axis=-1) / np.maximum(lengths, 1)
    asked = lengths > 0
    counts = asked.sum(axis=-1)
    sums = np.where(asked, of_probes, 0.0).sum(axis=-1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
