"""Per-token surrogate losses, to be minimised; the caller masks and aggregates.

`r = exp(log_weight)`, `A` the advantage. Element by element, any shape; shapes that differ are a
UserError.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdpo_jax.objectives.shapes import check_shapes


def clipped_surrogate(
    log_weight: Float[Array, "*shape"],
    advantages: Float[Array, "*shape"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    delta: float | None = None,
) -> Float[Array, "*shape"]:
    """`-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)` (PPO, arXiv 1707.06347; GRPO, arXiv
    2402.03300).

    clip_high > clip_low is DAPO's clip-higher (arXiv 2503.14476).
    dual_clip: for A < 0 the loss is at most `-dual_clip * A` (arXiv 1912.09729).
    delta: the unclipped ratio is capped at `delta` (INTELLECT-2, arXiv 2505.07291); it acts for A <
    0.
    """
    ratio = jnp.exp(log_weight)
    free = ratio if delta is None else jnp.minimum(ratio, delta)
    # Chosen by case, not by minimum, which would halve the gradient where both are equal.
    low, high = clip_flags(log_weight, advantages, clip_low=clip_low, clip_high=clip_high)
    loss = -advantages * jnp.where(low, 1 - clip_low, jnp.where(high, 1 + clip_high, free))
    if dual_clip is None:
        return loss
    return jnp.where(advantages < 0, jnp.minimum(loss, -dual_clip * advantages), loss)


def clip_flags(
    log_weight: Float[Array, "*shape"],
    advantages: Float[Array, "*shape"],
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[Bool[Array, "*shape"], Bool[Array, "*shape"]]:
    """Where the clip holds the ratio: (low, only for A < 0; high, only for A > 0)."""
    check_shapes(log_weight=log_weight, advantages=advantages)
    ratio = jnp.exp(log_weight)
    low = (ratio < 1 - clip_low) & (advantages < 0)
    high = (ratio > 1 + clip_high) & (advantages > 0)
    return low, high


def cispo_surrogate(
    log_weight: Float[Array, "*shape"],
    log_probs: Float[Array, "*shape"],
    advantages: Float[Array, "*shape"],
    *,
    lowest: float | None = None,
    highest: float = 5.0,
) -> Float[Array, "*shape"]:
    """`-sg(clip(r, lowest, highest)) A lp` (CISPO, MiniMax-M1, arXiv 2506.13585).

    The bounds are those of the ratio itself. TRL caps at 5 and has no lower bound (the defaults);
    verl and NeMo-RL clip to [1 - clip_low, 1 + clip_high].
    """
    check_shapes(log_weight=log_weight, log_probs=log_probs, advantages=advantages)
    weight = jnp.clip(jnp.exp(log_weight), lowest, highest)
    return -jax.lax.stop_gradient(weight) * advantages * log_probs


def sapo_surrogate(
    log_weight: Float[Array, "*shape"],
    advantages: Float[Array, "*shape"],
    *,
    tau_positive: float = 1.0,
    tau_negative: float = 1.05,
) -> Float[Array, "*shape"]:
    """`-(4 / tau) sigmoid(tau (r - 1)) A`: a soft gate in place of the clip (SAPO, arXiv
    2511.20347).
    """
    check_shapes(log_weight=log_weight, advantages=advantages)
    tau = jnp.where(advantages > 0, tau_positive, tau_negative).astype(log_weight.dtype)
    return -(4 / tau) * jax.nn.sigmoid(tau * (jnp.exp(log_weight) - 1)) * advantages


def reinforce_surrogate(
    log_probs: Float[Array, "*shape"], advantages: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """`-A lp`, no ratio (Williams, 1992; GPG, arXiv 2504.02546)."""
    check_shapes(log_probs=log_probs, advantages=advantages)
    return -advantages * log_probs
