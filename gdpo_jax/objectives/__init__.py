"""Advantages and log-probs -> loss: importance weights, surrogates, KL, aggregation, metrics."""

from gdpo_jax.objectives.aggregation import (
    AGGREGATIONS,
    Denominators,
    aggregate,
    count_denominators,
    token_weights,
)
from gdpo_jax.objectives.config import ObjectiveConfig
from gdpo_jax.objectives.contrastive import (
    circle_loss,
    info_nce,
    supervised_contrastive,
    triplet_loss,
)
from gdpo_jax.objectives.importance import log_importance
from gdpo_jax.objectives.kl import KL_ESTIMATORS, importance_weighted, kl_estimate
from gdpo_jax.objectives.metrics import Metrics, join_metrics
from gdpo_jax.objectives.mismatch import (
    SamplerCorrection,
    mismatch_metrics,
    mismatch_weights,
    stale_sequence_weights,
)
from gdpo_jax.objectives.objective import policy_objective
from gdpo_jax.objectives.selection import (
    covariance_tokens,
    mask_unfinished,
    sequence_kl,
    top_entropy_tokens,
)
from gdpo_jax.objectives.surrogates import (
    cispo_surrogate,
    clip_flags,
    clipped_surrogate,
    reinforce_surrogate,
    sapo_surrogate,
)
from gdpo_jax.objectives.tokens import pooled_mean, spread_to_tokens

__all__ = [
    "AGGREGATIONS",
    "KL_ESTIMATORS",
    "Denominators",
    "Metrics",
    "ObjectiveConfig",
    "SamplerCorrection",
    "aggregate",
    "circle_loss",
    "cispo_surrogate",
    "clip_flags",
    "clipped_surrogate",
    "count_denominators",
    "covariance_tokens",
    "importance_weighted",
    "info_nce",
    "join_metrics",
    "kl_estimate",
    "log_importance",
    "mask_unfinished",
    "mismatch_metrics",
    "mismatch_weights",
    "policy_objective",
    "pooled_mean",
    "reinforce_surrogate",
    "sapo_surrogate",
    "sequence_kl",
    "spread_to_tokens",
    "stale_sequence_weights",
    "supervised_contrastive",
    "token_weights",
    "top_entropy_tokens",
    "triplet_loss",
]
