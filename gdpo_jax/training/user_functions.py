"""Functions that a user gives to a run, tried on the shapes of a step before the first one.

They run inside of compiled steps, on the arrays of the whole batch. Here they are traced only: a
mistake is found, and the names of rewards are known, before anything is sampled.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gdpo_jax.advantages import RewardBatch
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import count_denominators
from gdpo_jax.rollouts import Rollout
from gdpo_jax.rollouts.engine import sampler_of
from gdpo_jax.training.config import PolicyOptimizationConfig
from gdpo_jax.training.policy_step import PolicyBatch

# Completion tokens of an engine that does not say how many it draws at most.
_SOME_TOKENS = 8


def expected_rollout(
    engine: Any, config: PolicyOptimizationConfig, *, with_reference: bool
) -> Rollout:
    """A rollout of one step as shapes."""
    sampler = sampler_of(engine)
    length = _SOME_TOKENS if sampler is None else sampler.max_new_tokens
    rows = config.prompts_per_step
    tokens = (rows, config.num_samples, length)

    def build() -> Rollout:
        zeros = jnp.zeros(tokens, jnp.float32)
        return Rollout(
            prompts=jnp.zeros((rows, min(config.prompt_buckets)), jnp.int32),
            prompt_lengths=jnp.ones((rows,), jnp.int32),
            completions=jnp.zeros(tokens, jnp.int32),
            mask=jnp.ones(tokens, bool),
            log_probs=zeros,
            sampled_log_probs=zeros,
            ref_log_probs=zeros if with_reference else None,
            finished=jnp.ones(tokens[:2], bool),
        )

    return jax.eval_shape(build)


def expected_rewards(names: tuple[str, ...], rollout: Rollout, num_ranks: int | None) -> Any:
    """The rewards of one step as shapes."""
    ranks = () if num_ranks is None else (num_ranks,)
    shape = (*rollout.finished.shape, len(names), *ranks)

    def build() -> RewardBatch:
        return RewardBatch(
            values=jnp.zeros(shape, jnp.float32), valid=jnp.ones(shape, bool), names=names
        )

    return jax.eval_shape(build)


def try_reshape_rewards(
    reshape_rewards: Callable[[RewardBatch, Rollout], RewardBatch] | None,
    rewards: RewardBatch,
    rollout: Rollout,
) -> RewardBatch:
    """The rewards, as shapes, that the estimator will see.

    Raises:
        UserError: the function failed or returned something else; says what.
    """
    if reshape_rewards is None:
        return rewards
    reshaped = _traced("reshape_rewards", reshape_rewards, rewards, rollout)
    if not isinstance(reshaped, RewardBatch):
        raise UserError(
            f"reshape_rewards must return a RewardBatch, got {type(reshaped).__name__}; "
            "`append_reward` and `mask_samples` return one"
        )
    old, new = rewards.values.shape, reshaped.values.shape
    fits = len(new) == len(old) and new[:2] == old[:2] and new[3:] == old[3:]
    if not fits or new[2] != len(reshaped.names) or reshaped.valid.shape != new:
        raise UserError(
            f"reshape_rewards returned values {new} and valid {reshaped.valid.shape} for the "
            f"rewards {list(reshaped.names)}; prompts, samples and ranks must stay {old[:2]} and "
            f"{old[3:]}, with one column a name"
        )
    if len(set(reshaped.names)) != len(reshaped.names):
        raise UserError(f"reshape_rewards returned a name twice: {list(reshaped.names)}")
    return reshaped


def try_penalty(
    penalty: Callable[[Rollout], Any] | None, rewards: RewardBatch, rollout: Rollout
) -> None:
    """Raises UserError if the function fails, or returns neither `[B, G]` nor `[B, G, R]`."""
    if penalty is None:
        return
    found = _traced("penalty", penalty, rollout)
    whole = rewards.values.shape[:2]
    legal = {whole, whole + rewards.values.shape[3:]}
    if getattr(found, "shape", None) not in legal:
        raise UserError(
            f"penalty must return one number per completion, of shape {sorted(legal)}, got "
            f"{getattr(found, 'shape', type(found).__name__)}"
        )


def try_reshape_update(
    reshape_update: Callable[[PolicyBatch], PolicyBatch] | None, batch: PolicyBatch
) -> PolicyBatch:
    """The batch, as shapes, that updates will see.

    Raises:
        UserError: the function failed or returned something else; says what.
    """
    if reshape_update is None:
        return batch
    reshaped = _traced("reshape_update", reshape_update, batch)
    if not isinstance(reshaped, PolicyBatch):
        raise UserError(
            f"reshape_update must return a PolicyBatch, got {type(reshaped).__name__}; "
            "`batch.replace(...)` returns one"
        )
    for field in dataclasses.fields(PolicyBatch):
        old, new = getattr(batch, field.name), getattr(reshaped, field.name)
        # Fields of the update that were empty are of tokens.
        wanted = batch.mask.shape if old is None else getattr(old, "shape", None)
        if field.name == "packed":
            continue
        if new is None and old is not None and field.name in ("mask", "advantages", "completions"):
            raise UserError(f"reshape_update took {field.name} out of the batch")
        if new is not None and getattr(new, "shape", None) != wanted:
            raise UserError(
                f"reshape_update returned {field.name} of shape {getattr(new, 'shape', new)}; it "
                f"must be {wanted}"
            )
    for name in ("mask", "old_kl_tokens"):
        mask = getattr(reshaped, name)
        if mask is not None and mask.dtype != jnp.bool_:
            raise UserError(f"reshape_update returned {name} of {mask.dtype}; it must be bool")
    return reshaped


def try_objective(objective: Callable[..., Any], batch: PolicyBatch) -> None:
    """Raises UserError if a loss function fails, or returns no (loss, metrics)."""

    def call(rows: dict[str, Any]) -> Any:
        denominators = count_denominators(rows["mask"], rows["segment_ids"])
        return objective(**rows, entropy=rows["advantages"], denominators=denominators)

    def flat(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct((leaf.shape[0] * leaf.shape[1], leaf.shape[2]), leaf.dtype)

    names = (
        "advantages",
        "mask",
        "old_log_probs",
        "ref_log_probs",
        "sampled_log_probs",
        "segment_ids",
        "policy_weights",
        "old_kl_tokens",
    )
    rows = {name: jax.tree.map(flat, getattr(batch, name)) for name in names}
    rows["log_probs"] = rows["advantages"]
    rows["old_log_probs"] = rows["advantages"]
    found = _traced("objective", call, rows)
    if not isinstance(found, tuple) or len(found) != 2 or getattr(found[0], "shape", None) != ():
        raise UserError("objective must return (loss, metrics) with a scalar loss")


def expected_batch(
    rollout: Rollout, config: PolicyOptimizationConfig, num_ranks: int | None
) -> PolicyBatch:
    """The batch of updates as shapes, as `reshape_update` sees it."""
    several = config.num_iterations * config.mini_batches > 1
    with_old = several or config.old_log_probs == "sampler"

    def build(rollout: Rollout) -> PolicyBatch:
        zeros = jnp.zeros(rollout.mask.shape, jnp.float32)
        return PolicyBatch(
            prompts=rollout.prompts,
            prompt_lengths=rollout.prompt_lengths,
            completions=rollout.completions,
            mask=rollout.mask,
            advantages=zeros,
            old_log_probs=zeros if with_old else None,
            ref_log_probs=rollout.ref_log_probs,
            sampled_log_probs=rollout.sampled_log_probs,
            segment_ids=None if num_ranks is None else rollout.completions,
            entropy=zeros if config.token_entropy else None,
            finished=rollout.finished,
        )

    return jax.eval_shape(build, rollout)


def _traced(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise UserError(
            f"{name} failed on the shapes of a step ({reason}); it runs inside of a compiled step "
            "and must be a pure function of arrays (jax.numpy) that returns what it is given, "
            "changed"
        ) from error


__all__ = [
    "expected_batch",
    "expected_rewards",
    "expected_rollout",
    "try_objective",
    "try_penalty",
    "try_reshape_rewards",
    "try_reshape_update",
]
