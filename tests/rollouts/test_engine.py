"""The engine: one program a bucket, the same rollouts on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from gdpo_jax.errors import UserError
from gdpo_jax.policies import DecoderConfig, decoder_policy
from gdpo_jax.rollouts import SamplerConfig, jax_engine

CONFIG = DecoderConfig(
    vocab_size=61,
    d_model=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    d_ff=24,
    max_positions=30,
)
POLICY = decoder_policy(CONFIG)
SAMPLER = SamplerConfig(max_new_tokens=6, stop_ids=(7, 9), pad_id=0)


@pytest.fixture
def inputs(getkey):
    params = jax.jit(POLICY.init)(getkey())
    params["embedding"] = params["embedding"] * (0.3 / params["embedding"].std())
    prompts = np.asarray(jax.random.randint(getkey(), (8, 5), 1, CONFIG.vocab_size))
    return params, prompts, np.array([5, 1, 2, 3, 4, 5, 1, 2], np.int32)


def test_rollouts_are_the_same_on_one_device_and_on_eight(inputs, getkey):
    params, prompts, lengths = inputs
    key = getkey()
    alone = jax_engine(POLICY, SAMPLER).generate(params, prompts, lengths, key, num_samples=3)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    engine = jax_engine(POLICY, SAMPLER, batch_sharding=sharding)
    replicated = jax.device_put((params, key), jax.NamedSharding(mesh, jax.P()))
    spread = engine.generate(replicated[0], prompts, lengths, replicated[1], num_samples=3)
    assert spread.completions.sharding.is_equivalent_to(sharding, 3)
    np.testing.assert_array_equal(spread.completions, alone.completions)
    np.testing.assert_array_equal(spread.mask, alone.mask)
    np.testing.assert_allclose(spread.log_probs, alone.log_probs, atol=1e-5)


def test_prompt_lengths_of_one_bucket_share_a_program_and_a_result(inputs, getkey):
    params, prompts, lengths = inputs
    engine, key = jax_engine(POLICY, SAMPLER, bucket=8), getkey()
    first = engine.generate(params, prompts, lengths, key, num_samples=2)
    wider = np.pad(prompts, ((0, 0), (0, 2)))
    second = engine.generate(params, jnp.asarray(wider), lengths, key, num_samples=2)
    assert first.prompts.shape == second.prompts.shape == (8, 8)
    np.testing.assert_array_equal(first.completions, second.completions)


def test_the_bucket_never_grows_a_prompt_beyond_the_positions(inputs, getkey):
    params, prompts, lengths = inputs
    engine = jax_engine(POLICY, SAMPLER, bucket=64)
    rollout = engine.generate(params, prompts, lengths, getkey(), num_samples=1)
    assert rollout.prompts.shape == (8, CONFIG.max_positions - SAMPLER.max_new_tokens)


def test_a_bucket_below_one_is_refused():
    with pytest.raises(UserError, match="bucket must be at least 1, got 0"):
        jax_engine(POLICY, SAMPLER, bucket=0)
