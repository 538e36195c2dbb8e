"""What the sampler is asked and what it returns."""

import dataclasses
import operator

import chex
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.errors import UserError

AnyArray = Array | np.ndarray

WEIGHTS = ("auto", "whole", "cut")
WHOLE_UP_TO = 4 * 2**30  # bytes a device: a quarter of the smallest accelerator of today's pods


@chex.dataclass(frozen=True)
class Rollout:
    """G sampled completions for each of B prompts, as JAX or NumPy arrays.

    prompts: `[B, P]` right-padded; prompt_lengths: `[B]`.
    completions: `[B, G, C]`, padded behind the stop token.
    mask: `[B, G, C]` true up to and including the stop token.
    finished: `[B, G]` whether a stop token came before the length limit.
    log_probs: `[B, G, C]` float32, of the temperature-scaled distribution before any cut, the one
      `completion_log_probs` computes; zero outside of the mask. None if the engine reports none.
    sampled_log_probs: `[B, G, C]` float32, of the distribution that tokens were drawn from: what
      top-k, top-p and min-p leave, renormalised; zero outside of the mask. None if it is that of
      `log_probs`: nothing was cut, or the most likely token taken (temperature 0).
    ref_log_probs: `[B, G, C]` of the reference policy, which engines leave at None.
    """

    prompts: Int[AnyArray, "B P"]
    prompt_lengths: Int[AnyArray, "B"]
    completions: Int[AnyArray, "B G C"]
    mask: Bool[AnyArray, "B G C"]
    finished: Bool[AnyArray, "B G"]
    log_probs: Float[AnyArray, "B G C"] | None = None
    sampled_log_probs: Float[AnyArray, "B G C"] | None = None
    ref_log_probs: Float[AnyArray, "B G C"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How completions are drawn; hashable, so that it may be static under `jax.jit`.

    Cuts apply in the order top_k, top_p, min_p, each to what the one before has left at this
    temperature; tokens of equal probability at a threshold are kept together, so that top_k may
    leave more than k. Raises UserError for values outside of their range; `check_sampler_ids` holds
    the ids against a policy.
    """

    max_new_tokens: int  # at most, the stop token included
    stop_ids: tuple[int, ...]  # any of them ends a completion, and is part of it
    pad_id: int  # behind the stop token
    temperature: float = 1.0  # 0 takes the most likely token: no cut, log-probs at 1
    top_k: int = 0  # tokens outside of the k most likely are never drawn; 0: off
    top_p: float = 1.0  # nor those outside of the smallest set with this much probability; 1: off
    min_p: float = 0.0  # nor those below this share of the most likely one's probability; 0: off
    # How often at most decoding goes on with half the rows, once the others are done. Each compiles
    # the decoding loop once more; tokens and log-probs are the same.
    halvings: int = 2
    fewest_rows: int = 8  # a loop with fewer rows on a device is not worth it
    # What a device of a mesh holds of the weights while it decodes; tokens are the same. "whole":
    # all, but for what `tensor` cuts. "cut" (the decoder alone): its part of them, and rows travel
    # between the devices of a copy. "auto": cut where whole ones take more than WHOLE_UP_TO.
    weights: str = "auto"

    def __post_init__(self):
        # A list is what one writes first, and could not be hashed.
        object.__setattr__(self, "stop_ids", _whole_numbers("stop_ids", self.stop_ids))
        object.__setattr__(self, "pad_id", _whole_numbers("pad_id", [self.pad_id])[0])
        object.__setattr__(self, "top_k", _whole_numbers("top_k", [self.top_k])[0])
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.temperature >= 0:
            raise UserError(f"temperature must be 0 (greedy) or above, got {self.temperature}")
        if self.top_k < 0:
            raise UserError(f"top_k must be 0 (off) or above, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"min_p must be at least 0 (off) and at most 1, got {self.min_p}")
        if self.halvings < 0:
            raise UserError(f"halvings must be 0 or above, got {self.halvings}")
        if self.fewest_rows < 1:
            raise UserError(f"fewest_rows must be at least 1, got {self.fewest_rows}")
        if self.weights not in WEIGHTS:
            raise UserError(f"weights {self.weights!r} is unknown; legal: {', '.join(WEIGHTS)}")

    @property
    def cuts(self) -> bool:
        """Whether tokens are drawn from less than the whole distribution at the temperature."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)


def _whole_numbers(name, values) -> tuple[int, ...]:
    try:
        return tuple(operator.index(value) for value in values)
    except TypeError as error:
        raise UserError(f"{name} must hold whole numbers, got {values!r}") from error
