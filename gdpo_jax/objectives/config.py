"""The choices of a policy objective, in one hashable record."""

import dataclasses
from typing import Literal

from gdpo_jax.errors import UserError
from gdpo_jax.objectives.aggregation import Aggregation, check_aggregation
from gdpo_jax.objectives.importance import Level
from gdpo_jax.objectives.kl import KL_ESTIMATORS, KLEstimator
from gdpo_jax.objectives.mismatch import SamplerCorrection

Surrogate = Literal["clip", "cispo", "sapo", "reinforce"]
_CHOICES = {
    "surrogate": ("clip", "cispo", "sapo", "reinforce"),
    "level": ("token", "segment", "sequence", "sequence_token"),
    "kl": (None, *KL_ESTIMATORS),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """How advantages and log-probs become a loss. Raises UserError for a value outside its range.

    surrogate: "clip" (PPO/GRPO), "cispo", "sapo" or "reinforce". level: what one importance weight
    belongs to. clip_low, clip_high: ratio bounds [1 - clip_low, 1 + clip_high]; GSPO wants about
    3e-4.
    dual_clip, delta: see `clipped_surrogate`; delta should exceed 1 + clip_high.
    cispo_lowest, cispo_highest: bounds of CISPO's ratio. sapo_tau_positive, sapo_tau_negative: its
    gates.
    kl: estimator, or None; kl_coef: its weight in the loss; kl_weighted: multiply it by the ratio
    (unbiased off-policy); kl_cap: bound on one token's estimate.
    old_kl_coef: KL-Cov's `|lp - old|` on the tokens given as `old_kl_tokens`.
    aggregation, max_length: see `token_weights`. entropy_coef: bonus on the mean token entropy.
    correction: weights for a sampler that differs from the trainer (`mismatch_weights`), or None.
    max_segments: list items a row can hold; later ones share a bin. log_ratio_limit: clamp before
    exp.
    """

    surrogate: Surrogate = "clip"
    level: Level = "token"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    delta: float | None = None
    cispo_lowest: float | None = None
    cispo_highest: float = 5.0
    sapo_tau_positive: float = 1.0
    sapo_tau_negative: float = 1.05
    kl: KLEstimator | None = None
    kl_coef: float = 0.0
    kl_weighted: bool = False
    kl_cap: float | None = None
    old_kl_coef: float = 0.0
    aggregation: Aggregation = "dapo"
    max_length: int | None = None
    entropy_coef: float = 0.0
    max_segments: int = 64
    log_ratio_limit: float = 20.0
    correction: SamplerCorrection | None = None

    def __post_init__(self) -> None:
        for field, legal in _CHOICES.items():
            if getattr(self, field) not in legal:
                raise UserError(
                    f"objective {field}={getattr(self, field)!r}; legal values: {list(legal)}"
                )
        check_aggregation(self.aggregation, self.max_length)
        if not 0 <= self.clip_low < 1 or self.clip_high < 0:
            raise UserError(
                f"clip_low={self.clip_low} not in [0, 1) or clip_high={self.clip_high} below 0"
            )
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise UserError(
                f"dual_clip={self.dual_clip} must be greater than 1 (3 is usual), or None"
            )
        if self.delta is not None and self.delta <= 1 + self.clip_high:
            raise UserError(f"delta={self.delta} must exceed 1 + clip_high = {1 + self.clip_high}")
        if self.kl_coef and self.kl is None:
            raise UserError(
                f"kl_coef={self.kl_coef} without an estimator: set kl to {KL_ESTIMATORS}"
            )
        lowest = 0.0 if self.cispo_lowest is None else self.cispo_lowest
        if not 0 <= lowest < self.cispo_highest:
            raise UserError(
                f"cispo_lowest={self.cispo_lowest}, cispo_highest={self.cispo_highest} bound the "
                "ratio itself: 0 <= lowest < highest"
            )
        if self.sapo_tau_positive <= 0 or self.sapo_tau_negative <= 0:
            raise UserError(
                f"sapo_tau_positive={self.sapo_tau_positive} and "
                f"sapo_tau_negative={self.sapo_tau_negative} must be positive"
            )
        if self.max_segments < 1:
            raise UserError(f"max_segments={self.max_segments} must be at least 1")

    @property
    def needs_reference(self) -> bool:
        """Whether the loss needs the reference policy's log-probs at all."""
        return self.kl is not None and self.kl_coef != 0
