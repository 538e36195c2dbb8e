"""Which tokens take part: by entropy, by covariance, by whether the completion ended.

Thresholds belong to the global batch: call these once, before micro-batches are cut, and hand the
slices on. The results are masks or `policy_weights`; none carries a gradient.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdpo_jax.errors import UserError
from gdpo_jax.objectives.kl import KLEstimator, kl_estimate
from gdpo_jax.objectives.shapes import check_shapes


def top_entropy_tokens(
    entropy: Float[Array, "*batch C"], mask: Bool[Array, "*batch C"], *, fraction: float = 0.2
) -> Bool[Array, "*batch C"]:
    """The loss tokens with entropy at or above the (1 - fraction) quantile of the batch
    (2506.01939).

    At least one token is kept; ties at the threshold are all kept.
    """
    check_shapes(entropy=entropy, mask=mask)
    return _largest(entropy, mask, fraction)


def covariance_tokens(
    log_probs: Float[Array, "*batch C"],
    advantages: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
    *,
    fraction: float = 2e-4,
) -> Bool[Array, "*batch C"]:
    """The few tokens with the largest `(A - mean A)(lp - mean lp)`, which drive entropy down.

    Clip-Cov and KL-Cov (arXiv 2505.22617). Clip-Cov drops them: `policy_weights=~chosen`. KL-Cov
    holds them to the old policy: `old_kl_tokens` of `policy_objective`.
    The authors draw Clip-Cov's tokens at random between two bounds; taking the largest, as KL-Cov
    does, is deterministic.
    """
    check_shapes(log_probs=log_probs, advantages=advantages, mask=mask)
    count = jnp.maximum(jnp.sum(mask, dtype=log_probs.dtype), 1)

    def centred(x: Array) -> Array:
        x = jnp.where(mask, x, 0)
        return jnp.where(mask, x - jnp.sum(x) / count, 0)

    return _largest(centred(advantages) * centred(log_probs), mask, fraction)


def mask_unfinished(
    mask: Bool[Array, "*batch C"], finished: Bool[Array, "*batch"]
) -> Bool[Array, "*batch C"]:
    """The loss mask without completions that never stopped (overlong filter, DAPO, arXiv
    2503.14476).

    They still count in the group statistics unless their rewards are masked too
    (`gdpo_jax.advantages.mask_samples`). DAPO's best runs did not use the filter.
    """
    if finished.shape != mask.shape[:-1]:
        raise UserError(
            f"finished has shape {list(finished.shape)}; for a mask {list(mask.shape)} it needs "
            "one entry for each completion"
        )
    return mask & jnp.expand_dims(finished, -1)


def sequence_kl(
    log_probs: Float[Array, "*batch C"],
    ref_log_probs: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
    *,
    estimator: KLEstimator = "k1",
) -> Float[Array, "*batch"]:
    """A completion's KL to the reference, summed over its tokens, for KL in the reward.

    estimator: of `kl_estimate`; "k1", `sum_t (lp - ref)`, is the usual and unbiased one here.
    With GDPO say where it goes: one more reward (`append_reward(rewards, "kl", -sequence_kl)`), or
    off the sum (`subtract_penalty`).
    """
    check_shapes(log_probs=log_probs, ref_log_probs=ref_log_probs, mask=mask)
    log_probs, ref_log_probs = (jnp.where(mask, x, 0) for x in (log_probs, ref_log_probs))
    kl = kl_estimate(log_probs, ref_log_probs, estimator=estimator)
    return jax.lax.stop_gradient(jnp.sum(kl, axis=-1))


def _largest(scores: Array, mask: Array, fraction: float) -> Bool[Array, "*batch C"]:
    if not 0 < fraction <= 1:
        raise UserError(f"fraction={fraction} must lie in (0, 1]")
    scores = jax.lax.stop_gradient(scores)
    count = jnp.sum(mask)
    kept = jnp.maximum(jnp.ceil(fraction * count.astype(jnp.float32)), 1).astype(jnp.int32)
    ordered = jnp.sort(jnp.ravel(jnp.where(mask, -scores, jnp.inf)))
    threshold = -jnp.take(ordered, kept - 1)
    return mask & (scores >= threshold)
