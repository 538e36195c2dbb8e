"""Memory and shapes by compilation on abstract values."""

import dataclasses

import jax
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.planning.abstract import abstract_batch, bytes_per_device
from gdpo_jax.planning.steps import (
    plan_log_probs,
    plan_policy_step,
    plan_sampler,
)
from gdpo_jax.policies import decoder_policy, num_params
from gdpo_jax.policies.families import llama3
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.training import PolicyOptimizationConfig, create_state, make_optimizer
from gdpo_jax.training.state import abstract_state
from tests.training import toy

OPTIMIZER = make_optimizer(toy.OPTIMIZER)
CONFIG = PolicyOptimizationConfig(
    steps=1, prompts_per_step=16, num_samples=2, prompt_buckets=(4,), mini_batches=2, chunk=None
)
SAMPLER = SamplerConfig(max_new_tokens=8, stop_ids=(toy.STOP,), pad_id=toy.PAD, halvings=0)
ARGUMENTS = (toy.POLICY, toy.OPTIMIZER, ObjectiveConfig(), CONFIG, SAMPLER)
WEIGHTS = num_params(jax.eval_shape(toy.POLICY.init, jax.random.key(0)))


@pytest.fixture(scope="module")
def update():
    """The policy step with whole parameters on each of eight devices."""
    return plan_policy_step(*ARGUMENTS, mesh=toy.mesh_of(8))


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


def test_shards_of_parameters_take_the_optimizer_along(update):
    mesh = toy.mesh_of(8, data=4, fsdp=2)
    sizes = {"prompts": 8, "num_samples": 2, "prompt_length": 4, "completion_length": 8}
    state, whole = abstract_state(toy.POLICY, OPTIMIZER, mesh=mesh), update.memory
    parameters, optimizer = map(bytes_per_device, (state.params, state.opt_state))
    assert parameters * 2 == whole.parameters
    # Two moments a parameter, and a few counters.
    assert abs(optimizer - 2 * parameters) <= 64
    assert abs(whole.optimizer - 2 * whole.parameters) <= 64
    assert bytes_per_device(abstract_batch(**sizes, mesh=mesh)) == whole.batch > 0
    assert whole.total == whole.state + whole.batch + whole.temporary + whole.other
    assert np.all(np.array(whole[:5]) > 0)


def test_impossible_meshes_are_refused_before_anything_compiles():
    with pytest.raises(UserError, match="not divisible by mesh axis"):
        abstract_state(toy.POLICY, OPTIMIZER, mesh=toy.mesh_of(8, data=1, tensor=8))


def test_products_of_an_update_and_of_log_probs_are_those_of_its_tokens(update):
    scored = plan_log_probs(*ARGUMENTS, mesh=toy.mesh_of(8))
    assert update.runs == 2 and scored.runs == 1
    # Prompts enter no logits, and scores of attention come on top.
    tokens = 16 // 8 * (4 + 2 * 8)
    assert 1.0 < scored.work.flops / (2 * WEIGHTS * tokens) < 1.5
    # Three times the products for half the prompts.
    assert 1.4 < update.work.flops / scored.work.flops < 2.5
    assert scored.work.sent == 0 < update.work.sent
    assert scored.memory.state == update.memory.state


def test_the_sampler_keeps_each_prompt_once_and_runs_to_its_limit():
    mesh, decoder = toy.mesh_of(8), toy.DECODER
    planned = plan_sampler(*ARGUMENTS, mesh=mesh)
    slots = 2 * decoder.num_layers * decoder.num_kv_heads * decoder.head_dim * 4
    assert planned.memory.caches == 2 * slots * (4 + 2 * 8)
    limit = dataclasses.replace(SAMPLER, max_new_tokens=15)
    longer = plan_sampler(*ARGUMENTS[:4], limit, mesh=mesh)
    # Seven tokens more of each of four rows on a device.
    more = longer.work.flops - planned.work.flops
    assert 1.0 < more / (2 * WEIGHTS * 4 * 7) < 1.5


@pytest.mark.parametrize(("shape", "pieces"), [({"data": 2}, 1), ({"data": 1, "fsdp": 2}, 2)])
def test_what_a_billion_parameters_take(shape, pieces):
    """Of 1.2 billion float32 parameters on two devices, and AdamW's two slots of each."""
    policy = decoder_policy(llama3("3.2-1B"))
    state = abstract_state(policy, OPTIMIZER, mesh=toy.mesh_of(2, **shape))
    whole = 1_235_814_400 * 4
    assert bytes_per_device(state.params) == pytest.approx(whole / pieces, rel=1e-4)
    assert bytes_per_device(state.opt_state) == pytest.approx(2 * whole / pieces, rel=1e-4)
