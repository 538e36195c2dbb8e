"""Weights that correct for a sampler whose log-probs differ from the trainer's.

`q = old - sampled`, both for the same weights of the policy. The weight multiplies the surrogate
(`ObjectiveConfig.correction`, or `policy_weights` of one's own), never carries a gradient, and
depends on quantities from before the update alone. In bypass mode, where the sampled log-probs are
the `old` ones, the surrogate's own ratio corrects and no further weight may be applied.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gdpo_jax.errors import UserError
from gdpo_jax.objectives.aggregation import Denominators
from gdpo_jax.objectives.metrics import Metrics
from gdpo_jax.objectives.shapes import check_shapes

_LEVELS = ("token", "sequence", "geometric")
_MODES = ("truncate", "mask")
CorrectionLevel = Literal["token", "sequence", "geometric"]
Mode = Literal["truncate", "mask"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerCorrection:
    """The options of `mismatch_weights`, which says what they do and which errors they raise."""

    level: CorrectionLevel = "token"  # what one weight belongs to
    mode: Mode = "truncate"  # cap large weights, or drop what lies outside the bounds
    lowest: float = 0.0  # below it a token or row is dropped (mode="mask")
    highest: float = 2.0  # above it a weight is capped or dropped

    def __post_init__(self) -> None:
        if self.level not in _LEVELS or self.mode not in _MODES:
            raise UserError(
                f"level={self.level!r}, mode={self.mode!r}; legal: {list(_LEVELS)}, {list(_MODES)}"
            )
        if not 0 <= self.lowest < self.highest:
            raise UserError(
                f"bounds [{self.lowest}, {self.highest}] must satisfy 0 <= lowest < highest"
            )
        if self.level == "geometric" and self.mode == "truncate":
            raise UserError('level="geometric" is a filter: use mode="mask"')
        if self.lowest and self.mode == "truncate":
            raise UserError(
                f'lowest={self.lowest} does nothing with mode="truncate", which caps large weights '
                'alone; use mode="mask", or leave lowest at 0'
            )


def mismatch_weights(
    old_log_probs: Float[Array, "*batch C"],
    sampled_log_probs: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
    *,
    level: CorrectionLevel = "token",
    mode: Mode = "truncate",
    lowest: float = 0.0,
    highest: float = 2.0,
    limit: float = 20.0,
) -> Float[Array, "*batch C"]:
    """The weight of every token; zero outside the mask.

    level: "token" `exp q`; "sequence" the product `exp(sum q)`, one weight for the row; "geometric"
    `exp(mean q)` decides about the row and kept rows hold their token weights. Product and
    geometric mean are different rules: a bound for one makes no sense for the other.
    mode: "truncate" caps at `highest` (TIS); "mask" drops what lies outside [lowest, highest]
    (IcePop at token level, sequence masking, NeMo-RL's seq-mask-tis for "geometric").
    Log-probs that are not finite (top-k and top-p cut-offs) get weight 0 and stay out of the sums.
    Peers: TRL 3, Tunix and verl 2, IcePop 0.5 to 5, geometric filters 0.999 to 1.001.
    Raises UserError for unknown names, bounds out of order or without effect, a geometric
    truncation, and shapes that differ.
    """
    rule = SamplerCorrection(level=level, mode=mode, lowest=lowest, highest=highest)
    return correction_weights(rule, old_log_probs, sampled_log_probs, mask, limit=limit)[0]


def correction_weights(
    rule: SamplerCorrection,
    old_log_probs: Float[Array, "*batch C"],
    sampled_log_probs: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
    *,
    limit: float = 20.0,
) -> tuple[Float[Array, "*batch C"], Bool[Array, "*batch C"]]:
    """`mismatch_weights` by a rule, and the tokens that its bounds touched (capped or dropped)."""
    difference, finite = log_mismatch(old_log_probs, sampled_log_probs, mask)
    total = jnp.sum(difference, axis=-1, keepdims=True)
    if rule.level == "token":
        decider = difference
    elif rule.level == "sequence":
        decider = total
    else:
        count = jnp.sum(finite, axis=-1, keepdims=True, dtype=difference.dtype)
        decider = total / jnp.maximum(count, 1)
    decider = jnp.exp(jnp.clip(decider, -limit, limit))
    weight = decider
    if rule.level == "geometric":
        weight = jnp.exp(jnp.clip(difference, -limit, limit))
    outside = decider > rule.highest
    if rule.mode == "truncate":
        weight = jnp.minimum(weight, rule.highest)
    else:
        outside = outside | (decider < rule.lowest)
        weight = jnp.where(outside, 0, weight)
    return jax.lax.stop_gradient(jnp.where(finite, weight, 0)), finite & outside


def stale_sequence_weights(
    log_probs: Float[Array, "*batch C"],
    sampled_log_probs: Float[Array, "*batch C"],
    advantages: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
    *,
    highest: float = 0.5,
) -> Float[Array, "*batch C"]:
    """0 where `A < 0` and the row's `mean(sampled - log_probs) > highest`, else 1.

    Off-policy sequence mask (DeepSeek-V3.2, arXiv 2512.02556): samples that the policy has moved
    away from no longer push it further.
    """
    check_shapes(log_probs=log_probs, advantages=advantages)
    difference, finite = log_mismatch(log_probs, sampled_log_probs, mask)
    count = jnp.sum(finite, axis=-1, keepdims=True, dtype=difference.dtype)
    drift = -jnp.sum(difference, axis=-1, keepdims=True) / jnp.maximum(count, 1)
    stale = (drift > highest) & (jnp.where(mask, advantages, 0) < 0)
    return jax.lax.stop_gradient(jnp.where(stale | ~mask, 0, 1).astype(difference.dtype))


def mismatch_metrics(
    old_log_probs: Float[Array, "*batch C"],
    sampled_log_probs: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
    denominators: Denominators,
    *,
    weights: Float[Array, "*batch C"] | None = None,
    outside: Bool[Array, "*batch C"] | None = None,
) -> Metrics:
    """How far sampler and trainer are apart.

    "rollout/abs_mean", "rollout/abs_max" of q; "rollout/error": mean of `exp |q|` (NeMo-RL's
    token_mult_prob_error); "rollout/kl": mean k3 of KL(sampler, trainer), "rollout/kl_reverse": of
    `-q` (its policy_kl_error), "rollout/js": of both against their mixture (its
    js_divergence_error); "rollout/nonfinite_mean".
    With weights also "rollout/weight_mean", "_min", "_max"; "rollout/weight_square_mean", from
    which the effective share of samples is `weight_mean^2 / weight_square_mean`;
    "rollout/dropped_mean": share of tokens with weight 0. With outside, the tokens that a bound
    capped or dropped: "rollout/outside_mean".
    """
    check_shapes(old_log_probs=old_log_probs, weights=weights, outside=outside)
    difference, finite = log_mismatch(old_log_probs, sampled_log_probs, mask)
    share = mask.astype(difference.dtype) / denominators.tokens.astype(difference.dtype)
    size = jnp.abs(difference)
    held = jnp.clip(difference, -20, 20)
    to_mixture = jnp.logaddexp(held, jnp.zeros_like(held)) - jnp.log(2.0).astype(held.dtype)
    minima, maxima = {}, {"rollout/abs_max": jnp.max(size)}
    sums = {
        "rollout/abs_mean": jnp.sum(size * share),
        "rollout/error": jnp.sum(jnp.exp(jnp.minimum(size, 20.0)) * share),
        "rollout/kl": jnp.sum(_k3(held) * share),
        "rollout/kl_reverse": jnp.sum(_k3(-held) * share),
        "rollout/js": jnp.sum((_k3(held - to_mixture) + _k3(-to_mixture)) / 2 * share),
        "rollout/nonfinite_mean": jnp.sum(jnp.where(mask & ~finite, share, 0)),
    }
    if weights is not None:
        sums |= {
            "rollout/weight_mean": jnp.sum(weights * share),
            "rollout/weight_square_mean": jnp.sum(weights * weights * share),
            "rollout/dropped_mean": jnp.sum(jnp.where(mask & (weights == 0), share, 0)),
        }
        minima["rollout/weight_min"] = jnp.min(jnp.where(mask, weights, jnp.inf))
        maxima["rollout/weight_max"] = jnp.max(jnp.where(mask, weights, -jnp.inf))
    if outside is not None:
        sums["rollout/outside_mean"] = jnp.sum(jnp.where(mask & outside, share, 0))
    return Metrics(sums=sums, minima=minima, maxima=maxima)


def _k3(log_ratio: Float[Array, "*batch C"]) -> Float[Array, "*batch C"]:
    return jnp.expm1(log_ratio) - log_ratio


def log_mismatch(
    old_log_probs: Float[Array, "*batch C"],
    sampled_log_probs: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
) -> tuple[Float[Array, "*batch C"], Bool[Array, "*batch C"]]:
    """`q = old - sampled` where it is finite and inside the mask, else 0; and where that is."""
    check_shapes(old_log_probs=old_log_probs, sampled_log_probs=sampled_log_probs, mask=mask)
    finite = mask & jnp.isfinite(old_log_probs) & jnp.isfinite(sampled_log_probs)
    old = jnp.where(finite, old_log_probs, 0)
    return old - jnp.where(finite, sampled_log_probs, 0), finite
