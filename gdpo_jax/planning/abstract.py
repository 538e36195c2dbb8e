"""Batches as shapes, dtypes and shardings, to compile a step without any data."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gdpo_jax.training.mesh import batch_sharding
from gdpo_jax.training.policy_step import PolicyBatch
from gdpo_jax.training.sft_step import SFTBatch

__all__ = ["abstract_batch", "abstract_prompts", "abstract_sft_batch", "bytes_per_device"]


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


def abstract_prompts(
    *, prompts: int, prompt_length: int, mesh: Mesh
) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Prompts and their lengths for the sampler, as shapes, dtypes and shardings."""
    sharding = batch_sharding(mesh)
    return (
        jax.ShapeDtypeStruct((prompts, prompt_length), jnp.int32, sharding=sharding),
        jax.ShapeDtypeStruct((prompts,), jnp.int32, sharding=sharding),
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
