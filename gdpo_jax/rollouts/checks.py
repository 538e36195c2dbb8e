"""What a sampler's options need of a policy, checked before anything compiles."""

from collections.abc import Iterable

from gdpo_jax.errors import UserError
from gdpo_jax.policies import Policy
from gdpo_jax.rollouts.records import SamplerConfig


def check_sampler_ids(policy: Policy, config: SamplerConfig) -> None:
    """Raises UserError for stop and padding ids that the policy's vocabulary does not have."""
    size = policy.config.vocab_size
    for name, ids in (("stop_ids", config.stop_ids), ("pad_id", (config.pad_id,))):
        wrong = [token for token in ids if not 0 <= token < size]
        if wrong:
            raise UserError(
                f"{name} {', '.join(map(str, wrong))}: the policy's vocabulary has the ids 0 to "
                f"{size - 1}; use ids of its own tokenizer (no stop token at all: stop_ids=())"
            )


def check_positions(policy: Policy, prompt_sizes: Iterable[int], new_tokens: int) -> None:
    """Raises UserError for prompts that leave less than `new_tokens` positions.

    prompt_sizes: padded lengths in tokens, as the buckets of a run; each counts whole.
    """
    size, longest = max(prompt_sizes), policy.config.max_positions - new_tokens
    if size > longest:
        advice = f"prompts may be {longest} long" if longest > 0 else "lower max_new_tokens"
        raise UserError(
            f"prompt length {size} and max_new_tokens {new_tokens} exceed the policy's "
            f"{policy.config.max_positions} positions; {advice}"
        )
