"""What the sampler is asked and what it returns."""

import dataclasses

import chex
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.errors import UserError


@chex.dataclass(frozen=True)
class Rollout:
    """G sampled completions for each of B prompts.

    prompts: `[B, P]` right-padded; prompt_lengths: `[B]`.
    completions: `[B, G, C]`, padded behind the stop token.
    mask: `[B, G, C]` true up to and including the stop token.
    log_probs: `[B, G, C]` float32, of the temperature-scaled distribution before any top-p cut, the
      one `completion_log_probs` computes; zero outside of the mask.
    sampled_log_probs: `[B, G, C]` of the distribution that was drawn from, or None: the same.
    ref_log_probs: `[B, G, C]` of the reference policy, filled in by a training loop that has one.
    finished: `[B, G]` whether a stop token came before the length limit.
    """

    prompts: Int[Array, "B P"]
    prompt_lengths: Int[Array, "B"]
    completions: Int[Array, "B G C"]
    mask: Bool[Array, "B G C"]
    log_probs: Float[Array, "B G C"] | None
    finished: Bool[Array, "B G"]
    sampled_log_probs: Float[Array, "B G C"] | None = None
    ref_log_probs: Float[Array, "B G C"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How completions are drawn; hashable, so that it may be static under `jax.jit`.

    temperature: 0 takes the most likely token each time (log-probs are then those at 1).
    top_p: tokens outside of the smallest set with this much probability are never drawn.
    stop_ids: any of these tokens ends a completion, and is part of it.
    halvings: how often at most decoding goes on with half the rows, once the others are done. Each
      compiles the decoding loop once more; tokens and log-probs are the same.
    fewest_rows: a loop with fewer rows on a device is not worth it.
    Raises UserError for values outside of their range.
    """

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    pad_id: int
    temperature: float = 1.0
    top_p: float = 1.0
    halvings: int = 2
    fewest_rows: int = 8

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.temperature >= 0:
            raise UserError(f"temperature must be 0 (greedy) or above, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.halvings < 0:
            raise UserError(f"halvings must be 0 or above, got {self.halvings}")
        if self.fewest_rows < 1:
            raise UserError(f"fewest_rows must be at least 1, got {self.fewest_rows}")
