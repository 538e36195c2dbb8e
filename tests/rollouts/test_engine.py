"""The engine: one program a bucket, the same rollouts on any mesh."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.policies import DecoderConfig, decoder_policy
from gdpo_jax.rollouts import SamplerConfig, check_positions, jax_engine
from gdpo_jax.rollouts.engine import padded_size, sampler_program
from gdpo_jax.training import MeshConfig, batch_sharding, make_mesh, replicated, shardings_for

CONFIG = DecoderConfig(
    vocab_size=64,
    d_model=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    d_ff=24,
    max_positions=30,
)
POLICY = decoder_policy(CONFIG)
SAMPLER = SamplerConfig(max_new_tokens=6, stop_ids=(7, 9), pad_id=0, halvings=0)
LONG = SamplerConfig(
    max_new_tokens=13,
    stop_ids=(7, 9, 11, 13),
    pad_id=0,
    halvings=1,
    fewest_rows=1,
    top_k=50,
    top_p=0.95,
)


init = jax.jit(POLICY.init)


@pytest.fixture
def inputs(getkey):
    params = init(getkey())
    params["embedding"] = params["embedding"] * (0.3 / params["embedding"].std())
    prompts = np.asarray(jax.random.randint(getkey(), (8, 5), 1, CONFIG.vocab_size))
    return params, prompts, np.array([5, 1, 2, 3, 4, 5, 1, 2], np.int32)


@pytest.fixture(scope="module")
def alone():
    """Parameters, prompts, and what one device makes of them."""
    params = init(jax.random.key(4))
    params["embedding"] = params["embedding"] * (0.3 / params["embedding"].std())
    prompts = np.random.default_rng(3).integers(0, CONFIG.vocab_size, (8, 6)).astype(np.int32)
    given = prompts, np.array([6, 1, 2, 3, 4, 5, 6, 3], np.int32)
    engine = jax_engine(POLICY, LONG, bucket=6)
    rollout = engine.generate(params, *given, jax.random.key(0), num_samples=4)
    # As NumPy, which is cut over a mesh without a program for each piece.
    return jax.device_get(params), given, rollout


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 4, 1), (2, 2, 2)])
def test_rollouts_on_a_mesh_are_those_of_one_device_and_nothing_is_whole(alone, sizes):
    params, given, expected = alone
    mesh = make_mesh(MeshConfig(*sizes))
    rows, whole = batch_sharding(mesh), replicated(mesh)
    arguments = (
        jax.device_put(params, shardings_for(POLICY.logical_axes(), params, mesh)),
        *jax.device_put(given, rows),
        jax.device_put(jax.random.key(0), whole),
    )
    program = sampler_program(POLICY, LONG, 4, rows).lower(*arguments).compile()
    rollout = program(*arguments)
    for name in ("completions", "mask", "finished"):
        np.testing.assert_array_equal(rollout[name], expected[name])
    for name in ("log_probs", "sampled_log_probs"):
        np.testing.assert_allclose(rollout[name], expected[name], atol=1e-5)
    assert len(set(np.asarray(expected.mask.sum(-1)).ravel())) > 3
    for leaf in jax.tree.leaves(rollout):
        assert leaf.sharding.is_equivalent_to(rows, leaf.ndim)

    # Keys of completions [prompts, key heads, rows, 8, 13] as one device holds them, in all loops,
    # where axes of one are left out.
    hlo = program.as_text()
    leads = re.findall(r"f32\[((?:\d+,)+)8,13\]", hlo)
    cut = {math.prod(map(int, lead.rstrip(",").split(","))) for lead in leads}
    pieces = sizes[0] * sizes[1]
    held = {8 // pieces * (2 // sizes[2]) * samples for samples in (4, 2)}
    assert held <= cut and max(cut) == max(held)
    # The widest matrix of each layer [embedding, 2, features] comes together once for all loops.
    gathered = re.findall(r"= f32\[(\d+),2,(\d+)\]\S* all-gather", hlo)
    wide = str(CONFIG.d_model), str(CONFIG.d_ff // sizes[2])
    assert gathered == ([wide] * CONFIG.num_layers if sizes[1] > 1 else [])
    if pieces == mesh.size and sizes[1] == 1:
        # With whole parameters nothing crosses devices, also where rows move together.
        assert not re.search(r" (all-gather|all-to-all|collective-permute)", hlo)


def test_prompt_lengths_of_one_bucket_share_a_program_and_a_result(inputs, getkey):
    params, prompts, lengths = inputs
    engine, key = jax_engine(POLICY, SAMPLER, bucket=8), getkey()
    first = engine.generate(params, prompts, lengths, key, num_samples=2)
    wider = np.pad(prompts, ((0, 0), (0, 2)))
    second = engine.generate(params, jnp.asarray(wider), lengths, key, num_samples=2)
    assert first.prompts.shape == second.prompts.shape == (8, 8)
    np.testing.assert_array_equal(first.completions, second.completions)


def test_every_prompt_length_needs_three_programs_in_all(getkey):
    policy, traces = decoder_policy(dataclasses.replace(CONFIG, num_layers=1)), []
    params = jax.jit(policy.init)(getkey())

    def unroll(params, num_positions):
        traces.append(1)
        return policy.unroll(params, num_positions)

    short = dataclasses.replace(SAMPLER, max_new_tokens=2)
    engine = jax_engine(policy._replace(unroll=unroll), short, bucket=8)
    for size in (1, 5, 8, 9, 13, 16, 17, 24):
        prompts, lengths = np.ones((1, size), np.int32), np.full(1, size, np.int32)
        engine.generate(params, prompts, lengths, getkey(), num_samples=1)
    assert len(traces) == 3


def test_buckets_are_two_a_doubling():
    sizes = [padded_size(size, 32) for size in range(1, 2049)]
    assert sorted(set(sizes)) == [32 * n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)]
    assert all(size <= padded < max(33, 2 * size) for size, padded in enumerate(sizes, 1))
    assert [padded_size(size, 1) for size in (1, 5, 77)] == [1, 5, 77]


def test_the_bucket_never_grows_a_prompt_beyond_the_positions(inputs, getkey):
    params, prompts, lengths = inputs
    engine = jax_engine(POLICY, SAMPLER, bucket=64)
    rollout = engine.generate(params, prompts, lengths, getkey(), num_samples=1)
    assert rollout.prompts.shape == (8, CONFIG.max_positions - SAMPLER.max_new_tokens)


def test_prompts_without_room_are_refused_before_anything_compiles(inputs, getkey):
    params, _, _ = inputs

    def never(*arguments):
        raise AssertionError("compiled")

    engine = jax_engine(POLICY._replace(unroll=never, forward=never), SAMPLER, bucket=8)
    prompts = np.ones((1, 25), np.int32)
    with pytest.raises(UserError, match="exceed the policy's 30 positions; prompts may be 24 long"):
        engine.generate(params, prompts, np.ones(1, np.int32), getkey(), num_samples=1)
    check_positions(POLICY, (8, 24), 6)
    with pytest.raises(UserError, match="prompt length 25 and max_new_tokens 6 exceed"):
        check_positions(POLICY, (8, 25, 9), 6)
    with pytest.raises(UserError, match="lower max_new_tokens"):
        check_positions(POLICY, (1,), 30)


def test_a_bucket_below_one_is_refused():
    with pytest.raises(UserError, match="bucket must be at least 1, got 0"):
        jax_engine(POLICY, SAMPLER, bucket=0)
