"""The whole step, rewards to new parameters, is the same on every shape of the mesh."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
import toy
from jax.sharding import AbstractMesh

from gdpo_jax.advantages import RewardBatch
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import LoraConfig, decoder_policy, lora_policy, trained_part
from gdpo_jax.training import (
    PolicyBatch,
    ShardingRules,
    batch_sharding,
    make_advantage_step,
    make_log_prob_step,
    make_optimizer,
    make_policy_step,
    to_global,
)
from gdpo_jax.training.mesh import AXES
from gdpo_jax.training.state import named_leaves, state_shardings
from tests.trees import norm

# As in test_steps.py, whose programs for two of the meshes are the same.
B, G, P, C, K = 32, 4, 6, 8, 3
# Adam's first update is the sign of the gradient, and a gradient of rounding size has none: eps
# stands above it.
OPTIMIZER = make_optimizer(dataclasses.replace(toy.OPTIMIZER, weight_decay=0.1, eps=1e-4))
OBJECTIVE = ObjectiveConfig(kl="k3", kl_coef=0.1, entropy_coef=0.01, aggregation="grpo")
# data x fsdp x tensor. One key-value head cannot be split over `tensor`: the table keeps it whole.
SHAPES = [(8, 1, 1), (1, 8, 1), (2, 4, 1), (2, 2, 2)]
RULES = {1: ShardingRules(), 2: ShardingRules(kv_heads=None)}
# Key-value heads that `tensor` divides and a vocabulary that the mesh does not: one model for both,
# so that its result on one device is computed once.
UNEVEN = decoder_policy(dataclasses.replace(toy.DECODER, num_kv_heads=2, vocab_size=18))


def rollout():
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, C + 1, (B, G))
    lengths[0, 0], lengths[0, 1] = 0, C
    rewards = RewardBatch(
        values=draw.normal(size=(B, G, K)).astype(np.float32),
        valid=draw.uniform(size=(B, G, K)) < 0.9,
        names=("a", "b", "c"),
    )
    return rewards, {
        "prompts": draw.integers(0, 14, (B, P)).astype(np.int32),
        "prompt_lengths": draw.integers(1, P + 1, B).astype(np.int32),
        "completions": draw.integers(0, 14, (B, G, C)).astype(np.int32),
        "mask": np.arange(C)[None, None] < lengths[:, :, None],
    }


def whole_step(mesh, rules, accumulation_steps=1, policy=toy.POLICY):
    """Advantages, reference log-probs and two updates; the state and all metrics."""
    options = {"mesh": mesh, "chunk": 3, "accumulation_steps": accumulation_steps}
    state = toy.fresh_state(mesh, OPTIMIZER, policy=policy, seed=5, rules=rules)
    rewards, sequences = to_global(rollout(), mesh)
    mask = sequences["mask"]
    token_advantages, _, _, _, reported = make_advantage_step(toy.GDPO, mesh=mesh)(
        toy.GDPO.init(rewards.names), rewards, mask, mask[..., -1], None
    )
    reference = make_log_prob_step(policy, **options)(state.params, **sequences)
    batch = PolicyBatch(
        **sequences,
        advantages=token_advantages,
        old_log_probs=reference,
        ref_log_probs=reference,
        sampled_log_probs=reference,
    )
    for leaf in jax.tree.leaves(batch):
        assert leaf.sharding.is_equivalent_to(batch_sharding(mesh), leaf.ndim)
    step = make_policy_step(policy, OPTIMIZER, OBJECTIVE, rules=rules, **options)
    for _ in range(2):
        state, metrics = step(state, batch)
    return state, toy.as_numpy({**reported, **metrics.as_dict()})


def on_one_device(policy):
    state, metrics = whole_step(toy.mesh_of(1), ShardingRules(), policy=policy)
    return toy.as_numpy((state.params, state.opt_state)), metrics


@pytest.fixture(scope="module")
def on_one():
    return on_one_device(toy.POLICY)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_whole_step_is_that_of_one_device(on_one, shape):
    data, fsdp, tensor = shape
    mesh, rules = toy.mesh_of(8, data=data, fsdp=fsdp, tensor=tensor), RULES[tensor]
    state, metrics = whole_step(mesh, rules, accumulation_steps=2 if tensor > 1 else 1)
    assert_same(state, metrics, on_one, toy.POLICY)
    assert_no_copies_over_fsdp(state, fsdp)


@pytest.fixture(scope="module")
def uneven_on_one():
    return on_one_device(UNEVEN)


@pytest.fixture(scope="module")
def uneven_on_tensor():
    return whole_step(toy.mesh_of(8, data=2, fsdp=2, tensor=2), ShardingRules(), policy=UNEVEN)


def test_key_value_heads_are_split_over_tensor_where_they_divide(uneven_on_one, uneven_on_tensor):
    state, metrics = uneven_on_tensor
    split = [name for name, leaf in named_leaves(state.params).items() if "key" in name]
    assert split
    for name in split:
        assert "tensor" in named_leaves(state.params)[name].sharding.spec, name
    assert_same(state, metrics, uneven_on_one, UNEVEN)


def test_a_vocabulary_that_the_mesh_does_not_divide_is_cut_less_or_not(
    uneven_on_one, uneven_on_tensor
):
    mesh = toy.mesh_of(8, data=2, fsdp=4, tensor=1)
    on_fsdp = whole_step(mesh, ShardingRules(), policy=UNEVEN)
    assert_no_copies_over_fsdp(on_fsdp[0], 4)
    for state, metrics in (on_fsdp, uneven_on_tensor):
        assert_same(state, metrics, uneven_on_one, UNEVEN)


def assert_same(state, metrics, on_one, policy):
    """Parameters, slots and metrics are those of one device."""
    (params, slots), expected = on_one
    fresh = toy.fresh_state(toy.mesh_of(1), OPTIMIZER, policy=policy, seed=5).params
    for ours, theirs, start in (
        (state.params, params, toy.as_numpy(fresh)),
        (state.opt_state[1][0].mu, slots[1][0].mu, None),
        (state.opt_state[1][0].nu, slots[1][0].nu, None),
    ):
        # Of parameters the change is compared, which is small against them.
        change = theirs if start is None else jax.tree.map(np.subtract, theirs, start)
        difference = jax.tree.map(np.subtract, toy.as_numpy(ours), theirs)
        assert norm(difference) < 1e-5 * norm(change)
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("optimizer", [OPTIMIZER, optax.adafactor(1e-3, min_dim_size_to_factor=8)])
@pytest.mark.parametrize(
    "changes",
    [{"attention_bias": True}, {"qk_norm": True}, {}],
    ids=["biases", "query and key norms", "adapters"],
)
def test_no_slot_is_copied_over_fsdp_even_of_parameters_that_are(changes, optimizer):
    policy = decoder_policy(dataclasses.replace(toy.POLICY.config, head_dim=8, **changes))
    if not changes:
        policy = lora_policy(policy, LoraConfig(rank=4, alpha=8.0))
    mesh = AbstractMesh((2, 2, 2), AXES)
    rules = ShardingRules(kv_heads=None)
    state = state_shardings(policy, optimizer, mesh=mesh, rules=rules)
    params = jax.eval_shape(policy.init, jax.random.key(0))
    slots = jax.eval_shape(optimizer.init, trained_part(policy, params))
    copied = [
        name
        for name, leaf in named_leaves(slots).items()
        if any(size % 2 == 0 for size in leaf.shape)
        and "fsdp" not in jax.tree.leaves(list(named_leaves(state.opt_state)[name].spec))
    ]
    assert copied == []


def assert_no_copies_over_fsdp(state, fsdp):
    """Each of the fsdp shards holds its part only of all parameters and all of their slots."""
    leaves = named_leaves((state.params, state.opt_state))
    arrays = {name: leaf for name, leaf in leaves.items() if leaf.ndim}
    assert len(arrays) == 3 * len(jax.tree.leaves(state.params))
    for name, leaf in arrays.items():
        assert "fsdp" in leaf.sharding.spec, name
        shard = np.prod(leaf.sharding.shard_shape(leaf.shape))
        assert shard * fsdp <= leaf.size, name
