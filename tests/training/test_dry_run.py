"""Memory and shapes by compilation on abstract values."""

import jax
import numpy as np
import pytest
import toy

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.training import create_state, make_optimizer
from gdpo_jax.training.dry_run import (
    abstract_batch,
    bytes_per_device,
    policy_step_memory,
)
from gdpo_jax.training.state import abstract_state

OPTIMIZER = make_optimizer(toy.OPTIMIZER)
SIZES = {"prompts": 8, "num_samples": 2, "prompt_length": 4, "completion_length": 8}


def memory_on(**shape):
    mesh = toy.mesh_of(8, **shape)
    batch = abstract_batch(**SIZES, mesh=mesh)
    return policy_step_memory(
        toy.POLICY, OPTIMIZER, ObjectiveConfig(), batch, mesh=mesh, chunk=None
    )


def test_the_abstract_state_is_the_state_that_would_be_made():
    mesh = toy.mesh_of(8, data=4, fsdp=2)
    real = create_state(toy.POLICY, OPTIMIZER, key=jax.random.key(0), mesh=mesh)
    planned = abstract_state(toy.POLICY, OPTIMIZER, mesh=mesh)
    assert jax.tree.structure(planned) == jax.tree.structure(real)
    for ours, theirs in zip(jax.tree.leaves(planned), jax.tree.leaves(real)):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        assert ours.sharding.is_equivalent_to(theirs.sharding, len(theirs.shape))


def test_bytes_are_those_of_the_shards():
    mesh = toy.mesh_of(8, data=4, fsdp=2)
    real = create_state(toy.POLICY, OPTIMIZER, key=jax.random.key(0), mesh=mesh)
    first = jax.devices()[0]
    held = sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(real.params)
        for shard in leaf.addressable_shards
        if shard.device == first
    )
    assert bytes_per_device(real.params) == held
    assert bytes_per_device(abstract_state(toy.POLICY, OPTIMIZER, mesh=mesh).params) == held


def test_shards_of_parameters_take_the_optimizer_along():
    whole, halves = memory_on(), memory_on(data=4, fsdp=2)
    assert halves.parameters * 2 == whole.parameters
    # Two moments a parameter, and a few counters.
    assert abs(halves.optimizer - 2 * halves.parameters) <= 64
    assert halves.batch == whole.batch > 0
    assert whole.total == whole.state + whole.batch + whole.temporary
    assert np.all(np.array(whole) > 0)


def test_impossible_meshes_are_refused_before_anything_compiles():
    with pytest.raises(UserError, match="not divisible by mesh axis"):
        abstract_state(toy.POLICY, OPTIMIZER, mesh=toy.mesh_of(8, data=1, tensor=8))
