"""Vectors added behind layers: by hand on a model whose layers write nothing, and on whole ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    DecoderConfig,
    LoraConfig,
    completion_log_probs,
    decoder_policy,
    layer_states,
    lora_policy,
    states_behind_layers,
    steered_policy,
    with_sign,
    with_steering,
)
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.rollouts.sampler import sample

CONFIG = DecoderConfig(
    vocab_size=12,
    d_model=8,
    num_layers=3,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    d_ff=8,
    max_positions=16,
    window=3,
    global_every=2,
)
POLICY = decoder_policy(CONFIG)
PROMPTS = jnp.array([[3, 1, 4, 1, 5], [9, 2, 0, 0, 0]], jnp.int32)
LENGTHS = jnp.array([5, 2], jnp.int32)
STEERED = steered_policy(POLICY)
SAMPLER = SamplerConfig(max_new_tokens=6, stop_ids=(11,), pad_id=0, temperature=1.0)
# Compiled as wholes, which is much faster than operation by operation.
one_layer = jax.jit(layer_states, static_argnums=(0, 4))
several_layers = jax.jit(states_behind_layers, static_argnums=(0, 4))
log_probs = jax.jit(completion_log_probs, static_argnums=0)
draw = jax.jit(
    lambda params, key: sample(
        STEERED, params, PROMPTS, LENGTHS, key, num_samples=4, config=SAMPLER
    )
)


@jax.jit
def drawn():
    vectors = jax.random.normal(jax.random.key(2), (3, 8))
    return with_steering(POLICY.init(jax.random.key(1)), vectors)


def test_a_vector_by_hand():
    """Where layers write nothing, a state is its token's embedding and what was added so far."""
    config = dataclasses.replace(
        CONFIG, vocab_size=3, d_model=2, num_layers=2, window=None, norm_eps=1e-12
    )
    policy = steered_policy(decoder_policy(config))
    shapes = jax.eval_shape(policy.init, jax.random.key(0))["base"]
    base = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    base["embedding"] = jnp.array([[3.0, 0], [0, 4], [1, 1]])
    base["final_norm"] = {"scale": jnp.ones(2)}
    params = with_steering(base, jnp.array([[0.0, 5], [1, -1]]))
    tokens, lengths = jnp.array([[0, 1]]), jnp.array([2])
    both = [
        several_layers(policy, with_sign(params, sign), tokens, lengths, (1, 2))
        for sign in (1.0, -1.0)
    ]
    np.testing.assert_array_equal(both[0][0][0], [[3, 5], [0, 9]])
    np.testing.assert_array_equal(both[0][1][0], [[4, 4], [1, 8]])
    np.testing.assert_array_equal(both[1][0][0], [[3, -5], [0, -1]])
    np.testing.assert_array_equal(both[1][1][0], [[2, -4], [-1, 0]])
    # The first one is [4, 4], of root mean square 4: [1, 1], and its logits are sums of rows.
    each = jnp.array([[[0], [1], [2]]])
    found, _ = log_probs(
        policy, with_sign(params, 1.0), tokens[:, :1], lengths - 1, each, jnp.ones((1, 3, 1), bool)
    )
    expected = np.array([3.0, 4, 2]) - np.log(np.exp([3.0, 4, 2]).sum())
    np.testing.assert_allclose(found[0, :, 0], expected, rtol=1e-5)


def test_the_sign_of_zero_changes_nothing_and_plain_parameters_are_taken():
    params = drawn()
    plain = one_layer(POLICY, params["base"], PROMPTS, LENGTHS, 3)
    for given in (params, params["base"]):
        np.testing.assert_array_equal(one_layer(STEERED, given, PROMPTS, LENGTHS, 3), plain)
    moved = one_layer(STEERED, with_sign(params, -0.5), PROMPTS, LENGTHS, 1)
    first = one_layer(POLICY, params["base"], PROMPTS, LENGTHS, 1)
    expected = np.broadcast_to(-0.5 * params["steering"]["vectors"][0], first.shape)
    np.testing.assert_allclose(moved - first, expected, rtol=1e-5, atol=1e-6)
    shapes = jax.eval_shape(STEERED.init, jax.random.key(0))
    axes = STEERED.logical_axes()
    fits = jax.tree.map(lambda leaf, names: len(leaf.shape) == len(names), shapes, axes)
    assert all(jax.tree.leaves(fits))
    assert jax.tree.structure(shapes) == jax.tree.structure(params)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_decoding_with_a_cache_adds_what_a_whole_pass_adds(sign):
    params = with_sign(drawn(), sign)
    rollout = draw(params, jax.random.key(5))
    given = PROMPTS, LENGTHS, rollout.completions, rollout.mask
    mask = np.asarray(rollout.mask)
    whole, other = (
        np.asarray(log_probs(STEERED, own, *given)[0])[mask]
        for own in (params, with_sign(params, -sign))
    )
    np.testing.assert_allclose(np.asarray(rollout.log_probs)[mask], whole, rtol=1e-4, atol=1e-5)
    assert np.abs(whole - other).max() > 0.1


def test_states_of_several_layers_in_one_pass_are_those_of_each():
    params = with_sign(drawn(), 1.0)
    for policy, own in ((POLICY, params["base"]), (STEERED, params)):
        found = several_layers(policy, own, PROMPTS, LENGTHS, (3, 1))
        for layer, states in zip((3, 1), found):
            one = one_layer(policy, own, PROMPTS, LENGTHS, layer)
            np.testing.assert_allclose(states[0], one[0], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(states[1, :2], one[1, :2], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_steered_or_has_no_layers_is_named():
    with pytest.raises(UserError, match="merge the adapters first"):
        steered_policy(lora_policy(POLICY, LoraConfig(rank=2)))
    with pytest.raises(UserError, match="another model"):
        steered_policy(POLICY._replace(config=None))
    with pytest.raises(UserError, match="layer 4 does not exist"):
        states_behind_layers(POLICY, {}, PROMPTS, LENGTHS, (1, 4))
    scanned = POLICY._replace(unroll=lambda params, num_positions: params)
    drawn_base = drawn()["base"]
    with pytest.raises(UserError, match=r"do not call Placement\.layers"):
        several_layers(scanned, drawn_base, PROMPTS, LENGTHS, (1,))
