"""Compilation ahead of time on abstract values: memory and shapes of a run that nobody pays for.

Nothing is allocated, so a pod of 64 chips can be planned on a laptop that forces 64 CPU devices.
Sizes of parameters, optimizer slots and batches are exact; temporary memory is what this backend's
compiler plans, and another backend's may differ.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import Policy
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.rollouts.engine import sampler_program
from gdpo_jax.training.mesh import DEFAULT_RULES, ShardingRules, batch_sharding
from gdpo_jax.training.policy_step import PolicyBatch, make_policy_step
from gdpo_jax.training.sft_step import SFTBatch, make_sft_step
from gdpo_jax.training.state import TrainState, abstract_state


class StepMemory(NamedTuple):
    """Bytes of one device. `state`: what stays between steps, of which `parameters` and
    `optimizer`; `batch`: the rows given to the step; `temporary`: the most that exists at a time
    inside."""

    parameters: int
    optimizer: int
    state: int
    batch: int
    temporary: int

    @property
    def total(self) -> int:
        """What a device must hold at the worst moment; the donated state is counted once."""
        return self.state + self.batch + self.temporary


def abstract_batch(
    *,
    prompts: int,
    num_samples: int,
    prompt_length: int,
    completion_length: int,
    mesh: Mesh,
    with_reference: bool = True,
    with_old: bool = False,
    with_segments: bool = False,
) -> PolicyBatch:
    """The batch of a policy step over sequences, as shapes, dtypes and shardings."""
    sharding = batch_sharding(mesh)

    def rows(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((prompts, *shape), dtype, sharding=sharding)

    tokens = (num_samples, completion_length)
    return PolicyBatch(
        prompts=rows(jnp.int32, prompt_length),
        prompt_lengths=rows(jnp.int32),
        completions=rows(jnp.int32, *tokens),
        mask=rows(jnp.bool_, *tokens),
        advantages=rows(jnp.float32, *tokens),
        old_log_probs=rows(jnp.float32, *tokens) if with_old else None,
        ref_log_probs=rows(jnp.float32, *tokens) if with_reference else None,
        sampled_log_probs=rows(jnp.float32, *tokens),
        segment_ids=rows(jnp.int32, *tokens) if with_segments else None,
    )


def abstract_sft_batch(
    *,
    batch_size: int,
    prompt_length: int,
    completion_length: int,
    mesh: Mesh,
    with_labels: bool = False,
) -> SFTBatch:
    """The batch of a supervised step, as shapes, dtypes and shardings."""
    sharding = batch_sharding(mesh)

    def rows(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=sharding)

    return SFTBatch(
        prompts=rows(jnp.int32, prompt_length),
        prompt_lengths=rows(jnp.int32),
        completions=rows(jnp.int32, completion_length),
        completion_mask=rows(jnp.bool_, completion_length),
        labels=rows(jnp.int32) if with_labels else None,
    )


def sft_step_memory(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    batch: SFTBatch,
    *,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    **options: Any,
) -> StepMemory:
    """Memory of one device in the supervised step; `options` and errors as for `make_sft_step`."""
    state = abstract_state(policy, optimizer, mesh=mesh, rules=rules)
    step = make_sft_step(policy, optimizer, mesh=mesh, rules=rules, **options)
    return _memory(step.lower(state, batch), state, batch)


def sampler_memory(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    config: SamplerConfig,
    *,
    prompts: int,
    num_samples: int,
    prompt_length: int,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
) -> StepMemory:
    """Memory of one device while it samples beside the state that is being trained.

    Raises UserError as `policy_step_memory`, and for rows longer than the policy's positions.
    """
    state = abstract_state(policy, optimizer, mesh=mesh, rules=rules)
    sharding = batch_sharding(mesh)
    rows = (
        jax.ShapeDtypeStruct((prompts, prompt_length), jnp.int32, sharding=sharding),
        jax.ShapeDtypeStruct((prompts,), jnp.int32, sharding=sharding),
    )
    program = sampler_program(policy, config, num_samples, sharding, rules)
    key = jax.eval_shape(jax.random.key, 0)
    return _memory(program.lower(state.params, *rows, key), state, rows)


def policy_step_memory(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    objective: ObjectiveConfig,
    batch: PolicyBatch,
    *,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    **options: Any,
) -> StepMemory:
    """Memory of one device in the policy step of this batch; `options` as for `make_policy_step`.

    Raises:
        UserError: a parameter does not divide over the mesh, or this backend reports no memory.
    """
    state = abstract_state(policy, optimizer, mesh=mesh, rules=rules)
    step = make_policy_step(policy, optimizer, objective, mesh=mesh, rules=rules, **options)
    return _memory(step.lower(state, batch), state, batch)


def _memory(lowered: jax.stages.Lowered, state: TrainState, batch: Any) -> StepMemory:
    analysis = lowered.compile().memory_analysis()
    if analysis is None:
        raise UserError(f"the {jax.default_backend()} backend reports no memory of a program")
    return StepMemory(
        parameters=bytes_per_device(state.params),
        optimizer=bytes_per_device(state.opt_state),
        state=bytes_per_device(state),
        batch=bytes_per_device(batch),
        temporary=int(analysis.temp_size_in_bytes),
    )


def bytes_per_device(tree: Any) -> int:
    """Bytes that one device holds of arrays or of abstract ones with shardings."""

    def size(leaf: Any) -> int:
        shape = leaf.sharding.shard_shape(leaf.shape)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(shape, leaf.dtype))
            shape = leaf.shape
        # Two int4 numbers share a byte.
        return -(-math.prod(shape) * jax.dtypes.itemsize_bits(leaf.dtype) // 8)

    return sum(size(leaf) for leaf in jax.tree.leaves(tree))


__all__ = [
    "StepMemory",
    "abstract_batch",
    "abstract_sft_batch",
    "bytes_per_device",
    "policy_step_memory",
    "sampler_memory",
    "sft_step_memory",
]
