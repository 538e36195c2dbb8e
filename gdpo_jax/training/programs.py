"""The compiled functions of a policy optimization step, and what goes into them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gdpo_jax.advantages import AdvantageTransform
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import Policy
from gdpo_jax.rollouts import Rollout
from gdpo_jax.training.advantage_step import Penalty, ReshapeRewards, make_advantage_step
from gdpo_jax.training.config import PolicyOptimizationConfig
from gdpo_jax.training.mesh import ShardingRules, batch_sharding, replicated
from gdpo_jax.training.packing import pack_rollout
from gdpo_jax.training.policy_step import (
    Objective,
    PolicyBatch,
    make_log_prob_step,
    make_policy_step,
)
from gdpo_jax.training.update import split_rows

__all__ = [
    "Programs",
    "ReshapeUpdate",
    "compile_programs",
    "drawn_log_probs",
    "old_log_probs",
    "sequences_of",
]

ReshapeUpdate = Callable[[PolicyBatch], PolicyBatch]


class Programs(NamedTuple):
    """The compiled functions of a step."""

    advantages: Callable
    log_probs: Callable
    log_probs_and_entropy: Callable
    reshape: Callable[[PolicyBatch], PolicyBatch]
    mini_batches: Callable[[PolicyBatch], Sequence[PolicyBatch]]
    update: Callable
    keep_if: Callable


def compile_programs(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    objective: ObjectiveConfig | Objective,
    transform: AdvantageTransform,
    config: PolicyOptimizationConfig,
    mesh: Mesh,
    rules: ShardingRules,
    *,
    functions: tuple[ReshapeRewards | None, Penalty | None, ReshapeUpdate | None],
) -> Programs:
    """The jitted functions of a run; equal arguments share their programs.

    functions: `reshape_rewards`, `penalty` and `reshape_update` of `run_policy_optimization`.
    """
    reshape_rewards, penalty, reshape_update = functions
    options = {
        "mesh": mesh,
        "rules": rules,
        "accumulation_steps": config.accumulation_steps,
        "temperature": config.temperature,
        "layout": "plain" if config.layout == "plain" else "shared",
        "chunk": config.chunk,
    }
    return Programs(
        advantages=make_advantage_step(
            transform, mesh=mesh, reshape_rewards=reshape_rewards, penalty=penalty
        ),
        log_probs=make_log_prob_step(policy, **options),
        log_probs_and_entropy=make_log_prob_step(policy, with_entropy=True, **options),
        reshape=_make_reshape(reshape_update, mesh),
        mini_batches=_make_mini_batches(config.mini_batches, mesh),
        update=make_policy_step(policy, optimizer, objective, **options),
        keep_if=jax.jit(_keep_if, out_shardings=replicated(mesh)),
    )


def sequences_of(
    rollout: Rollout, config: PolicyOptimizationConfig, mesh: Mesh, *, pad_id: int
) -> dict[str, Any]:
    """What log-probs are computed of."""
    packed = None
    if config.layout == "packed":
        parts = config.mini_batches * config.accumulation_steps
        packed = pack_rollout(rollout, parts=parts, mesh=mesh, pad_id=pad_id)
    return {
        "prompts": rollout.prompts,
        "prompt_lengths": rollout.prompt_lengths,
        "completions": rollout.completions,
        "mask": rollout.mask,
        "packed": packed,
    }


def drawn_log_probs(rollout: Rollout) -> Any:
    """Log-probs of the distribution that the engine drew from, or None if it reports none."""
    return rollout.log_probs if rollout.sampled_log_probs is None else rollout.sampled_log_probs


def old_log_probs(
    programs: Programs,
    config: PolicyOptimizationConfig,
    params: Any,
    sequences: Mapping[str, Any],
    sampled_log_probs: Any,
) -> tuple[Any, Any]:
    """Log-probs that ratios are taken to (None: those of the policy being updated), and entropies
    where they are asked for."""
    own = entropy = None
    if config.token_entropy:
        own, entropy = programs.log_probs_and_entropy(params, **sequences)
    if config.old_log_probs == "sampler":
        return sampled_log_probs, entropy
    if config.num_iterations * config.mini_batches == 1:
        return None, entropy
    return (programs.log_probs(params, **sequences) if own is None else own), entropy


@functools.lru_cache(maxsize=64)
def _make_reshape(
    reshape_update: ReshapeUpdate | None, mesh: Mesh
) -> Callable[[PolicyBatch], PolicyBatch]:
    if reshape_update is None:
        return lambda batch: batch

    def reshape(batch: PolicyBatch) -> PolicyBatch:
        reshaped = reshape_update(batch)
        return reshaped.replace(mask=reshaped.mask & batch.mask)

    return jax.jit(reshape, out_shardings=batch_sharding(mesh))


@functools.lru_cache(maxsize=64)
def _make_mini_batches(count: int, mesh: Mesh) -> Callable[[PolicyBatch], Sequence[PolicyBatch]]:
    if count == 1:
        return lambda batch: [batch]

    def cut(batch: PolicyBatch) -> list[PolicyBatch]:
        parts = split_rows(batch, count, mesh)
        return [jax.tree.map(lambda rows, i=i: rows[i], parts) for i in range(count)]

    return jax.jit(cut, out_shardings=batch_sharding(mesh))


def _keep_if(healthy: Any, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(healthy, a, b), new, old)
