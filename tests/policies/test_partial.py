"""A part of the parameters is trained: masks, both parts, and states between the layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    DecoderConfig,
    LoraConfig,
    decoder_policy,
    join_params,
    layer_states,
    lora_policy,
    partial_policy,
    pooled,
    split_params,
    trained_part,
)
from gdpo_jax.policies.attention import causal, causal_mask, within
from gdpo_jax.policies.partial import checked_mask

CONFIG = DecoderConfig(
    vocab_size=12,
    d_model=8,
    num_layers=3,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    d_ff=8,
    max_positions=16,
    window=2,
    global_every=2,
    tie_embeddings=False,
)
POLICY = decoder_policy(CONFIG)
PROMPTS = jnp.array([[3, 1, 4, 1, 5], [9, 2, 0, 0, 0]], jnp.int32)
LENGTHS = jnp.array([5, 2], jnp.int32)
MASKS = {
    "up to a layer": {"embedding": True, "layers": 2},
    "the last ones": {"layers": -1, "final_norm": True, "head": True},
    "a branch": {"layers": {"query": True, "attention_norm": {"scale": 1}}},
    "all layers": {"layers": 3},
    "all": True,
}


@pytest.fixture(scope="module")
def params():
    return jax.jit(POLICY.init)(jax.random.key(0))


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("name", MASKS)
def test_both_parts_are_the_whole(params, name):
    mask = checked_mask(params, MASKS[name])
    parts = split_params(params, mask)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in parts.values()]
    assert sum(sizes) == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sizes[0] > 0
    same(join_params(parts, mask), params)


def test_what_is_trained_is_what_the_mask_says(params):
    policy = partial_policy(POLICY, MASKS["up to a layer"])
    parts = split_params(params, MASKS["up to a layer"])
    trained = trained_part(policy, parts)
    assert set(trained) == {"embedding", "layers"}
    same(trained["layers"], jax.tree.map(lambda p: p[:2], params["layers"]))
    drawn = jax.jit(policy.init)(jax.random.key(0))
    same(drawn, parts)
    axes = policy.logical_axes()
    assert axes["trained"]["layers"]["query"] == axes["frozen"]["layers"]["query"]
    assert axes["frozen"]["head"] == ("embed", "vocab")


def test_equal_masks_have_one_policy_and_one_layer_is_not_all():
    """One object, so that what is compiled for it is there for all."""
    whole, first = {"layers": True, "head": True}, {"layers": 1, "head": True}
    policies = [partial_policy(POLICY, mask) for mask in (whole, first, {**whole, "layers": 3})]
    assert policies[0] == policies[2] and hash(policies[0]) == hash(policies[2])
    for policy, count in zip(policies, (3, 1, 3), strict=True):
        shapes = jax.eval_shape(policy.init, jax.random.key(0))
        assert shapes["trained"]["layers"]["query"].shape[0] == count


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"layer": True}, "legal: embedding, final_norm, head, layers"),
        ({"layers": 4}, "legal: 1 to 3 or -1 to -3"),
        ({"layers": 0}, "legal: 1 to 3"),
        ({"embedding": False}, "trains nothing"),
        ({"layers": {"query": "yes"}}, "layers/query"),
        (2, "legal: True and False"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(params, mask, message):
    with pytest.raises(UserError, match=message):
        partial_policy(POLICY, mask)


def whole_states(policy, params):
    positions = jnp.broadcast_to(jnp.arange(5)[None], (2, 5))
    attend = causal(causal_mask(LENGTHS, 5), within(positions, positions, CONFIG.window))
    return attend, positions, policy.hidden_states(params, PROMPTS, positions, attend)[0]


def test_states_between_layers_are_those_of_the_whole_model(params):
    """The layers behind them go on to what the whole model computes; windows stay in place."""
    expected = jax.jit(lambda p: whole_states(POLICY, p)[2])(params)

    def through(params, layer):
        between = layer_states(POLICY, params, PROMPTS, LENGTHS, layer)
        attend, positions, _ = whole_states(POLICY, params)
        _, behind = POLICY.split_layers(params, layer)
        return POLICY.hidden_states(behind, between, positions, attend)[0]

    for layer in (1, 2, 3):
        found = jax.jit(through, static_argnums=1)(params, layer)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_adapters_and_parts_count_in_states(params):
    adapted = lora_policy(POLICY, LoraConfig(rank=2, targets=("query",)))
    fresh = jax.jit(adapted.init)(jax.random.key(1))["adapters"]
    both = {"base": params, "adapters": jax.tree.map(lambda a: a + np.float32(0.1), fresh)}
    mask = {"adapters": {"layers": 2}}
    policy = partial_policy(adapted, mask)
    parts = split_params(both, mask)
    assert set(parts["trained"]) == {"adapters"}
    states = jax.jit(
        lambda policy, p: layer_states(policy, p, PROMPTS, LENGTHS, 2), static_argnums=0
    )
    np.testing.assert_array_equal(states(policy, parts), states(adapted, both))
    assert np.abs(states(policy, parts) - states(POLICY, params)).max() > 1e-3
    same(policy.reference(parts), params)


@pytest.mark.parametrize("layer", [0, 4, True, 1.5])
def test_a_layer_that_does_not_exist_is_named(params, layer):
    with pytest.raises(UserError, match="the decoder has layers 1 to 3"):
        layer_states(POLICY, params, PROMPTS, LENGTHS, layer)


def test_a_policy_without_layers_is_named(params):
    foreign = POLICY._replace(split_layers=None)
    with pytest.raises(UserError, match="split_layers"):
        layer_states(foreign, params, PROMPTS, LENGTHS, 1)


def test_pooling_by_hand():
    states = jnp.arange(12, dtype=jnp.bfloat16).reshape(2, 3, 2)
    lengths = jnp.array([3, 2])
    np.testing.assert_array_equal(pooled(states, lengths, "last"), [[4, 5], [8, 9]])
    np.testing.assert_array_equal(pooled(states, lengths, "mean"), [[2, 3], [7, 8]])
    assert pooled(states, lengths, "mean").dtype == jnp.float32
    with pytest.raises(UserError, match="legal: last, mean"):
        pooled(states, lengths, "first")


def test_masks_of_tied_models_leave_the_output_to_the_embedding():
    """The table of a tied model is before layer 1 and behind the last one."""
    tied = decoder_policy(dataclasses.replace(CONFIG, tie_embeddings=True))
    policy = partial_policy(tied, {"layers": 1})
    parts = jax.jit(policy.init)(jax.random.key(0))
    assert "embedding" not in parts["trained"]
    np.testing.assert_array_equal(policy.output(parts), parts["frozen"]["embedding"])
