"""The choices of a policy objective, in one hashable record."""

import dataclasses
import math
from typing import Any, Literal

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
# The options that one surrogate alone reads, and what the others have in their place.
_OPTIONS = {
    "clip": ("clip_low", "clip_high", "dual_clip", "delta"),
    "cispo": ("cispo_lowest", "cispo_highest"),
    "sapo": ("sapo_tau_positive", "sapo_tau_negative"),
}
_HINTS = {
    "clip": "is bounded by clip_low and clip_high",
    "cispo": "is bounded by cispo_lowest and cispo_highest, which bound the ratio itself",
    "sapo": "is shaped by sapo_tau_positive and sapo_tau_negative",
    "reinforce": "has no ratio",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """How advantages and log-probs become a loss.

    Raises UserError for a value outside its range, and for options that the surrogate or the KL
    term in use would ignore. `max_length`, `max_segments` and `log_ratio_limit` are sizes, which
    may stand beside any choice.
    """

    surrogate: Surrogate = "clip"  # "clip" (PPO, GRPO), "cispo", "sapo", "reinforce"
    # What one importance weight belongs to (`log_importance`). "reinforce" has no ratio: there it
    # decides about kl_weighted and the ratio metrics alone.
    level: Level = "token"
    clip_low: float = 0.2  # "clip" bounds the ratio by [1 - clip_low, 1 + clip_high]
    clip_high: float = 0.2  # DAPO 0.28; GSPO wants about 3e-4 for both
    dual_clip: float | None = None  # "clip": for A < 0 the loss is at most -dual_clip A
    delta: float | None = None  # "clip": cap on the unclipped ratio; the smaller of both acts
    cispo_lowest: float | None = None  # "cispo": lower bound of the ratio itself; None is 0
    cispo_highest: float = 5.0  # "cispo": upper bound of the ratio itself
    sapo_tau_positive: float = 1.0  # "sapo": steepness of its gate for A > 0
    sapo_tau_negative: float = 1.05  # and for A < 0
    kl: KLEstimator | None = None  # of the distance to the reference (`kl_estimate`)
    kl_coef: float = 0.0  # weight of the KL term in the loss
    kl_weighted: bool = False  # multiply the estimate by the ratio (unbiased off-policy)
    kl_cap: float | None = None  # bound on one token's estimate
    old_kl_coef: float = 0.0  # KL-Cov: weight of |lp - old| on the tokens `old_kl_tokens`
    aggregation: Aggregation = "dapo"  # from tokens to one number (`token_weights`)
    max_length: int | None = None  # "dr_grpo" divides by it: the longest completion
    entropy_coef: float = 0.0  # bonus on the mean token entropy
    max_segments: int = 64  # list items a row can hold; later ones share a bin
    log_ratio_limit: float = 20.0  # clamp on log ratios before exp
    correction: SamplerCorrection | None = None  # weights for a sampler unlike the trainer

    def __post_init__(self) -> None:
        for field, legal in _CHOICES.items():
            if getattr(self, field) not in legal:
                raise UserError(
                    f"objective {field}={getattr(self, field)!r}; legal values: {list(legal)}"
                )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and math.isnan(value):
                raise UserError(f"objective {field.name} is not a number; give one")
        check_aggregation(self.aggregation, self.max_length)
        self._check_used()
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
        if self.kl_cap is not None and self.kl_cap <= 0:
            raise UserError(f"kl_cap={self.kl_cap} must be positive, or None")
        if self.max_segments < 1:
            raise UserError(f"max_segments={self.max_segments} must be at least 1")
        if self.log_ratio_limit <= 0:
            raise UserError(f"log_ratio_limit={self.log_ratio_limit} must be positive")

    def _check_used(self) -> None:
        """Raises UserError for an option that differs from its default and would do nothing."""
        for surrogate, names in _OPTIONS.items():
            for name in names if surrogate != self.surrogate else ():
                if getattr(self, name) != _default(name):
                    raise UserError(
                        f"{name}={getattr(self, name)} belongs to surrogate={surrogate!r}; "
                        f"surrogate={self.surrogate!r} ignores it, and {_HINTS[self.surrogate]}"
                    )
        if self.kl is None and (self.kl_weighted or self.kl_cap is not None):
            raise UserError(
                f"kl_weighted={self.kl_weighted}, kl_cap={self.kl_cap} without an estimator do "
                f"nothing: set kl to one of {list(KL_ESTIMATORS)}"
            )

    @property
    def needs_reference(self) -> bool:
        """Whether the loss needs the reference policy's log-probs at all."""
        return self.kl is not None and self.kl_coef != 0


def _default(name: str) -> Any:
    return next(x.default for x in dataclasses.fields(ObjectiveConfig) if x.name == name)
