"""Advantages and log-probs -> the loss of a micro-batch, and its metrics.

Order: importance weights, surrogate, policy weights (rollout correction, masks), + KL, - entropy
bonus, aggregation. KL is not multiplied by the policy weights (as in TRL).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.errors import UserError
from gdpo_jax.objectives.aggregation import Denominators, token_weights
from gdpo_jax.objectives.config import ObjectiveConfig
from gdpo_jax.objectives.importance import log_importance
from gdpo_jax.objectives.kl import absolute, importance_weighted, kl_estimate
from gdpo_jax.objectives.metrics import Metrics, join_metrics
from gdpo_jax.objectives.mismatch import correction_weights, mismatch_metrics
from gdpo_jax.objectives.shapes import check_shapes
from gdpo_jax.objectives.surrogates import (
    cispo_surrogate,
    clip_flags,
    clipped_surrogate,
    reinforce_surrogate,
    sapo_surrogate,
)


def policy_objective(
    config: ObjectiveConfig,
    *,
    log_probs: Float[Array, "*batch C"],
    old_log_probs: Float[Array, "*batch C"],
    advantages: Float[Array, "*batch C"],
    mask: Bool[Array, "*batch C"],
    denominators: Denominators,
    ref_log_probs: Float[Array, "*batch C"] | None = None,
    segment_ids: Int[Array, "*batch C"] | None = None,
    entropy: Float[Array, "*batch C"] | None = None,
    sampled_log_probs: Float[Array, "*batch C"] | None = None,
    policy_weights: Float[Array, "*batch C"] | Bool[Array, "*batch C"] | None = None,
    old_kl_tokens: Bool[Array, "*batch C"] | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """The loss of one micro-batch, to be minimised, and scalar metrics.

    Losses and gradients of micro-batches that share `denominators` add up to those of the whole
    batch; `Metrics` say how they merge.
    log_probs: of the trained policy, the only input that carries a gradient besides `entropy`.
    old_log_probs: of the policy that made the samples, or of the trainer at the start of the
    update.
    segment_ids: list item of each token, for level="segment" and aggregation="item_mean".
    sampled_log_probs: of the distribution that was sampled, for `config.correction` and the
    "rollout/" metrics. policy_weights: factor on the surrogate of each token, or a mask of those
    that keep theirs (`top_entropy_tokens`, Clip-Cov); no gradient. What stands outside `mask` may
    be anything. On the first update of a batch every ratio is 1: the clip
    metrics are 0 and the loss is near 0 while its gradient is not.
    old_kl_tokens: held to the old policy by `config.old_kl_coef` (KL-Cov, arXiv 2505.22617).
    Raises UserError if the config needs an input that is missing or leaves old_kl_tokens without
    effect, and for shapes that differ.
    """
    check_shapes(
        log_probs=log_probs,
        old_log_probs=old_log_probs,
        advantages=advantages,
        mask=mask,
        ref_log_probs=ref_log_probs,
        segment_ids=segment_ids,
        entropy=entropy,
        sampled_log_probs=sampled_log_probs,
        policy_weights=policy_weights,
        old_kl_tokens=old_kl_tokens,
    )
    _check_inputs(config, ref_log_probs, segment_ids, entropy, sampled_log_probs, old_kl_tokens)
    dtype = jnp.float64 if log_probs.dtype == jnp.float64 else jnp.float32

    def clean(x: Array) -> Array:
        return jnp.where(mask, x, 0).astype(dtype)

    constant = jax.lax.stop_gradient
    log_probs = clean(log_probs)
    old_log_probs, advantages = constant(clean(old_log_probs)), constant(clean(advantages))
    log_weight = log_importance(
        log_probs,
        old_log_probs,
        mask,
        level=config.level,
        segment_ids=segment_ids,
        max_segments=config.max_segments,
        limit=config.log_ratio_limit,
    )
    surrogate = _surrogate(config, log_weight, log_probs, advantages)
    metrics = Metrics()
    if sampled_log_probs is not None:
        correction, outside = None, None
        if config.correction is not None:
            correction, outside = correction_weights(
                config.correction, old_log_probs, clean(sampled_log_probs), mask
            )
            surrogate = surrogate * correction
        metrics = mismatch_metrics(
            old_log_probs,
            clean(sampled_log_probs),
            mask,
            denominators,
            weights=correction,
            outside=outside,
        )
    if policy_weights is not None:
        surrogate = surrogate * constant(clean(jnp.asarray(policy_weights).astype(dtype)))
    if old_kl_tokens is not None:
        held = config.old_kl_coef * absolute(log_probs - old_log_probs)
        surrogate = surrogate + jnp.where(old_kl_tokens, held, 0)
    weights = token_weights(
        mask,
        denominators,
        aggregation=config.aggregation,
        max_length=config.max_length,
        segment_ids=segment_ids,
        max_segments=config.max_segments,
        dtype=dtype,
    )
    policy_loss = jnp.sum(surrogate * weights)
    token_share = mask.astype(dtype) / jnp.maximum(denominators.tokens, 1).astype(dtype)
    loss, sums = policy_loss, {"loss/policy": policy_loss}

    if ref_log_probs is not None:
        reference = constant(clean(ref_log_probs))
        for name in ("k1", "k3"):
            estimate = kl_estimate(constant(log_probs), reference, estimator=name)
            sums[f"kl/{name}"] = jnp.sum(estimate * token_share)
        if config.needs_reference:
            kl = kl_estimate(log_probs, reference, estimator=config.kl, cap=config.kl_cap)
            if config.kl_weighted:
                kl = importance_weighted(kl, log_weight)
            kl_loss = config.kl_coef * jnp.sum(kl * weights)
            loss, sums = loss + kl_loss, sums | {"loss/kl": kl_loss}

    if entropy is not None:
        mean_entropy = jnp.sum(clean(entropy) * token_share)
        sums["entropy"] = mean_entropy
        if config.entropy_coef:
            bonus = config.entropy_coef * mean_entropy
            loss, sums = loss - bonus, sums | {"loss/entropy": -bonus}

    sums["kl/old"] = jnp.sum((old_log_probs - log_probs) * token_share)
    sums["loss/total"] = loss
    ratios = _ratio_metrics(config, log_weight, advantages, mask, token_share)
    return loss, jax.tree.map(constant, join_metrics(Metrics(sums=sums), ratios, metrics))


def _surrogate(
    config: ObjectiveConfig, log_weight: Array, log_probs: Array, advantages: Array
) -> Array:
    if config.surrogate == "clip":
        return clipped_surrogate(
            log_weight,
            advantages,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            dual_clip=config.dual_clip,
            delta=config.delta,
        )
    if config.surrogate == "cispo":
        return cispo_surrogate(
            log_weight,
            log_probs,
            advantages,
            lowest=config.cispo_lowest,
            highest=config.cispo_highest,
        )
    if config.surrogate == "sapo":
        return sapo_surrogate(
            log_weight,
            advantages,
            tau_positive=config.sapo_tau_positive,
            tau_negative=config.sapo_tau_negative,
        )
    return reinforce_surrogate(log_probs, advantages)


def _ratio_metrics(
    config: ObjectiveConfig, log_weight: Array, advantages: Array, mask: Array, token_share: Array
) -> Metrics:
    """Ratio and clip metrics; low counts A < 0 only, high A > 0 only; min and max are over
    sequences. Surrogates without a clip hold nothing.
    """
    ratio = jnp.exp(log_weight)
    below, above = _clip_bounds(config)
    low, high = clip_flags(log_weight, advantages, clip_low=below, clip_high=above)
    low, high = low & mask, high & mask
    lengths = jnp.sum(mask, axis=-1, dtype=ratio.dtype)
    lengths, empty = jnp.maximum(lengths, 1), lengths == 0
    per_sequence_low = jnp.sum(low, axis=-1, dtype=ratio.dtype) / lengths
    per_sequence_high = jnp.sum(high, axis=-1, dtype=ratio.dtype) / lengths
    sums = {
        "ratio/mean": jnp.sum(ratio * token_share),
        "clip_ratio/low_mean": jnp.sum(jnp.where(low, token_share, 0)),
        "clip_ratio/high_mean": jnp.sum(jnp.where(high, token_share, 0)),
        "clip_ratio/region_mean": jnp.sum(jnp.where(low | high, token_share, 0)),
        "advantage/token_abs_mean": jnp.sum(jnp.abs(advantages) * token_share),
    }
    if config.dual_clip is not None:
        dual = (advantages < 0) & (ratio > config.dual_clip) & mask
        sums["clip_ratio/dual_mean"] = jnp.sum(jnp.where(dual, token_share, 0))
    minima = {
        "ratio/min": jnp.min(jnp.where(mask, ratio, jnp.inf)),
        "clip_ratio/low_min": jnp.min(jnp.where(empty, jnp.inf, per_sequence_low)),
    }
    maxima = {
        "ratio/max": jnp.max(jnp.where(mask, ratio, -jnp.inf)),
        "clip_ratio/high_max": jnp.max(jnp.where(empty, -jnp.inf, per_sequence_high)),
    }
    return Metrics(sums=sums, minima=minima, maxima=maxima)


def _clip_bounds(config: ObjectiveConfig) -> tuple[float, float]:
    """How far below and above 1 the surrogate lets the ratio go."""
    if config.surrogate == "clip":
        return config.clip_low, config.clip_high
    if config.surrogate == "cispo":
        lowest = 0.0 if config.cispo_lowest is None else config.cispo_lowest
        return 1 - lowest, config.cispo_highest - 1
    return 1.0, float("inf")


def _check_inputs(
    config: ObjectiveConfig,
    ref_log_probs: object,
    segment_ids: object,
    entropy: object,
    sampled_log_probs: object,
    old_kl_tokens: object,
) -> None:
    if config.needs_reference and ref_log_probs is None:
        raise UserError(f"kl={config.kl!r} with kl_coef={config.kl_coef} needs ref_log_probs")
    if segment_ids is None and (config.level == "segment" or config.aggregation == "item_mean"):
        raise UserError('level="segment" and aggregation="item_mean" need segment_ids')
    if config.entropy_coef and entropy is None:
        raise UserError(f"entropy_coef={config.entropy_coef} needs the entropy of every token")
    if config.correction is not None and sampled_log_probs is None:
        raise UserError(f"correction={config.correction} needs sampled_log_probs")
    if config.old_kl_coef and old_kl_tokens is None:
        raise UserError(
            f"old_kl_coef={config.old_kl_coef} does nothing without old_kl_tokens, the tokens that "
            "it holds to the old policy; give them (`covariance_tokens`), or set old_kl_coef to 0"
        )
    if old_kl_tokens is not None and not config.old_kl_coef:
        raise UserError("old_kl_tokens do nothing with old_kl_coef=0; set it, or leave them out")
