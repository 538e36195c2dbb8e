"""Weights that correct for a sampler whose log-probs differ from the trainer's.

`q = old - sampled`, both for the same weights of the policy. The weight multiplies the surrogate of
`policy_objective` (`policy_weights`), never carries a gradient, and is computed once per batch. In
bypass mode, where the sampled log-probs are the `old` ones, the surrogate's own ratio corrects and
no further weight may be applied.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdpo_jax.errors import UserError
from gdpo_jax.objectives.aggregation import Denominators

_LEVELS = ("token", "sequence", "geometric")
_MODES = ("truncate", "mask")


def mismatch_weights(
    old_log_probs: Float[Array, "N C"],
    sampled_log_probs: Float[Array, "N C"],
    mask: Bool[Array, "N C"],
    *,
    level: Literal["token", "sequence", "geometric"] = "token",
    mode: Literal["truncate", "mask"] = "truncate",
    lowest: float = 0.0,
    highest: float = 2.0,
    limit: float = 20.0,
) -> Float[Array, "N C"]:
    """The weight of every token; zero outside the mask.

    level: "token" `exp q`; "sequence" the product `exp(sum q)`, one weight for the row; "geometric"
    `exp(mean q)` decides about the row and kept rows hold their token weights. Product and
    geometric mean are different rules: a bound for one makes no sense for the other.
    mode: "truncate" caps at `highest` (TIS); "mask" drops what lies outside [lowest, highest]
    (IcePop at token level, sequence masking, NeMo-RL's seq-mask-tis for "geometric").
    Log-probs that are not finite (top-k and top-p cut-offs) get weight 0 and stay out of the sums.
    Peers: TRL 3, Tunix and verl 2, IcePop 0.5 to 5, geometric filters 0.999 to 1.001.
    Raises UserError for unknown names, bounds out of order, or a geometric truncation.
    """
    if level not in _LEVELS or mode not in _MODES:
        raise UserError(f"level={level!r}, mode={mode!r}; legal: {list(_LEVELS)}, {list(_MODES)}")
    if not 0 <= lowest < highest:
        raise UserError(f"bounds [{lowest}, {highest}] must satisfy 0 <= lowest < highest")
    if level == "geometric" and mode == "truncate":
        raise UserError('level="geometric" is a filter: use mode="mask"')
    difference, finite = log_mismatch(old_log_probs, sampled_log_probs, mask)
    total = jnp.sum(difference, axis=1, keepdims=True)
    if level == "token":
        decider = difference
    elif level == "sequence":
        decider = total
    else:
        count = jnp.sum(finite, axis=1, keepdims=True, dtype=difference.dtype)
        decider = total / jnp.maximum(count, 1)
    decider = jnp.exp(jnp.clip(decider, -limit, limit))
    weight = decider
    if level == "geometric":
        weight = jnp.exp(jnp.clip(difference, -limit, limit))
    if mode == "truncate":
        weight = jnp.minimum(weight, highest)
    else:
        weight = jnp.where((decider >= lowest) & (decider <= highest), weight, 0)
    return jax.lax.stop_gradient(jnp.where(finite, weight, 0))


def stale_sequence_weights(
    log_probs: Float[Array, "N C"],
    sampled_log_probs: Float[Array, "N C"],
    advantages: Float[Array, "N C"],
    mask: Bool[Array, "N C"],
    *,
    highest: float = 0.5,
) -> Float[Array, "N C"]:
    """0 where `A < 0` and the row's `mean(sampled - log_probs) > highest`, else 1.

    Off-policy sequence mask (DeepSeek-V3.2, arXiv 2512.02556): samples that the policy has moved
    away from no longer push it further.
    """
    difference, finite = log_mismatch(log_probs, sampled_log_probs, mask)
    count = jnp.sum(finite, axis=1, keepdims=True, dtype=difference.dtype)
    drift = -jnp.sum(difference, axis=1, keepdims=True) / jnp.maximum(count, 1)
    stale = (drift > highest) & (jnp.where(mask, advantages, 0) < 0)
    return jax.lax.stop_gradient(jnp.where(stale | ~mask, 0, 1).astype(difference.dtype))


def mismatch_metrics(
    old_log_probs: Float[Array, "N C"],
    sampled_log_probs: Float[Array, "N C"],
    mask: Bool[Array, "N C"],
    weights: Float[Array, "N C"],
    denominators: Denominators,
) -> dict[str, Array]:
    """How far sampler and trainer are apart; additive over micro-batches but for min and max.

    "rollout/abs_mean", "rollout/abs_max" of q; "rollout/error": mean of `exp |q|` (NeMo-RL's
    token_mult_prob_error); "rollout/kl": mean k3 of the trainer from the sampler;
    "rollout/nonfinite_mean"; "rollout/weight_mean", "_min", "_max"; "rollout/weight_square_mean",
    from which the effective sample size is `weight_mean^2 / weight_square_mean`;
    "rollout/dropped_mean": share of tokens with weight 0.
    """
    difference, finite = log_mismatch(old_log_probs, sampled_log_probs, mask)
    share = mask.astype(difference.dtype) / denominators.tokens.astype(difference.dtype)
    size = jnp.abs(difference)
    return {
        "rollout/abs_mean": jnp.sum(size * share),
        "rollout/abs_max": jnp.max(size),
        "rollout/error": jnp.sum(jnp.exp(jnp.minimum(size, 20.0)) * share),
        "rollout/kl": jnp.sum((jnp.expm1(jnp.clip(difference, -20, 20)) - difference) * share),
        "rollout/nonfinite_mean": jnp.sum(jnp.where(mask & ~finite, share, 0)),
        "rollout/weight_mean": jnp.sum(weights * share),
        "rollout/weight_square_mean": jnp.sum(weights * weights * share),
        "rollout/weight_min": jnp.min(jnp.where(mask, weights, jnp.inf)),
        "rollout/weight_max": jnp.max(jnp.where(mask, weights, -jnp.inf)),
        "rollout/dropped_mean": jnp.sum(jnp.where(mask & (weights == 0), share, 0)),
    }


def log_mismatch(
    old_log_probs: Float[Array, "N C"],
    sampled_log_probs: Float[Array, "N C"],
    mask: Bool[Array, "N C"],
) -> tuple[Float[Array, "N C"], Bool[Array, "N C"]]:
    """`q = old - sampled` where it is finite and inside the mask, else 0; and where that is."""
    finite = mask & jnp.isfinite(old_log_probs) & jnp.isfinite(sampled_log_probs)
    old = jnp.where(finite, old_log_probs, 0)
    return old - jnp.where(finite, sampled_log_probs, 0), finite
