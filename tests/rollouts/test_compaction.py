"""Unfinished rows that move together keep their prompt, cache, draws and place."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdpo_jax.errors import UserError
from gdpo_jax.policies import DecoderConfig, decoder_policy
from gdpo_jax.policies.attention import KeyValues
from gdpo_jax.rollouts import SamplerConfig, sample
from gdpo_jax.rollouts.compaction import Slots, compact, gather_results, narrower, slots_needed
from gdpo_jax.rollouts.sampler import empty_rows, stages

POLICY = decoder_policy(
    DecoderConfig(
        vocab_size=64,
        d_model=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        d_ff=24,
        max_positions=40,
    )
)
SAMPLER = SamplerConfig(max_new_tokens=16, stop_ids=(3, 7, 9, 11, 13), pad_id=0)


# Compile time is what this test costs.
@functools.partial(
    jax.jit,
    static_argnames=("num_samples", "config", "pieces"),
    compiler_options={"xla_backend_optimization_level": 0},
)
def draw(params, prompts, lengths, **options):
    return sample(POLICY, params, prompts, lengths, jax.random.key(5), **options)


@pytest.mark.parametrize(
    ("batch", "num_samples", "pieces", "shapes"),
    [
        (4, 3, 1, [(4, 2), (4, 1), (2, 1)]),
        (8, 1, 2, [(2, 1), (1, 1)]),
    ],
)
def test_results_are_the_same_with_and_without(batch, num_samples, pieces, shapes):
    params = jax.jit(POLICY.init)(jax.random.key(1))
    params["embedding"] = 2 * params["embedding"]
    prompts = np.random.default_rng(0).integers(0, 64, (batch, 6)).astype(np.int32)
    lengths = np.arange(batch, dtype=np.int32) % 6 + 1
    cuts = dataclasses.replace(SAMPLER, top_k=30, top_p=0.95, min_p=0.01)
    config = dataclasses.replace(cuts, halvings=len(shapes), fewest_rows=1)
    assert stages(batch // pieces, num_samples, config) == shapes
    with_all = dataclasses.replace(cuts, halvings=0)
    options = {"num_samples": num_samples}
    whole = draw(params, prompts, lengths, config=with_all, **options)
    moved = draw(params, prompts, lengths, config=config, pieces=pieces, **options)
    assert len(set(np.asarray(whole.mask.sum(-1)).ravel())) > 2
    for name in ("completions", "mask", "finished"):
        np.testing.assert_array_equal(moved[name], whole[name])
    for name in ("log_probs", "sampled_log_probs"):
        np.testing.assert_allclose(moved[name], whole[name], atol=1e-6)
    assert (whole.sampled_log_probs > whole.log_probs).any()


def test_loops_stop_shrinking_at_the_fewest_rows():
    config = dataclasses.replace(SAMPLER, halvings=9, fewest_rows=8)
    assert stages(4, 8, config) == [(4, 4), (4, 2)]
    assert stages(32, 1, config) == [(16, 1), (8, 1)]
    assert stages(2, 4, config) == []
    assert stages(4, 8, dataclasses.replace(config, halvings=1)) == [(4, 4)]


def numbered(finished):
    """Rows and caches that hold their own number everywhere, and slots that hold theirs."""
    slots, width = finished.shape
    number = jnp.arange(finished.size).reshape(finished.shape)
    rows = empty_rows(jnp.broadcast_to(number.astype(float)[..., None], (slots, width, 3)), 0, 1)
    rows = rows.replace(token=number, results=rows.results.replace(finished=finished))
    keys = jnp.broadcast_to(number[:, None, :, None, None], (slots, 2, width, 4, 3))
    prompt = jnp.broadcast_to(jnp.arange(slots)[:, None, None, None], (slots, 2, 5, 4))
    shared = Slots(prompt_lengths=jnp.arange(slots), prompt_caches=(KeyValues(prompt, prompt),))
    return shared, rows, (KeyValues(keys, jnp.swapaxes(keys, -1, -2)),)


needed_of = jax.jit(slots_needed, static_argnums=(1, 2))


@functools.partial(jax.jit, static_argnames="shape")
def compacted(finished, shape):
    return compact(*numbered(finished), shape=shape, pieces=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(3, 4), (4, 1), (2, 5)]), st.floats(0.0, 1.0))
def test_unfinished_rows_keep_all_they_have(seed, shape, share):
    finished = np.random.default_rng(seed).uniform(size=shape) < share
    slots, width = narrower(*shape)
    left = [np.flatnonzero(~row) + i * shape[1] for i, row in enumerate(finished)]
    needed = sum(-(-len(row) // width) for row in left)
    assert int(needed_of(finished, width, 1)) == needed
    if needed > slots:
        return
    shared, rows, (cache,) = jax.device_get(compacted(finished, (slots, width)))
    kept = ~rows.results.finished
    np.testing.assert_array_equal(rows.origin[kept], np.concatenate(left))
    np.testing.assert_array_equal(rows.token[kept], rows.origin[kept])
    np.testing.assert_array_equal(rows.uniforms[kept][:, 0], rows.origin[kept])
    for slot, column in np.argwhere(kept):
        origin = int(rows.origin[slot, column])
        assert (cache.keys[slot, :, column] == origin).all()
        assert (cache.values[slot, :, column] == origin).all()
        assert int(shared.prompt_lengths[slot]) == origin // shape[1]
        assert (shared.prompt_caches[0].keys[slot] == origin // shape[1]).all()


def test_results_go_back_to_where_rows_began_and_empty_rows_nowhere():
    finished = np.array([[True, False, True], [True, True, False]])
    _, rows, _ = jax.jit(numbered)(finished)
    before = rows.results
    _, moved, _ = compacted(finished, (2, 2))
    assert np.sum(~np.asarray(moved.results.finished)) == 2
    drawn = moved.results.replace(tokens=np.full((2, 2, 3), 9), finished=np.ones((2, 2), bool))
    merged = jax.jit(gather_results, static_argnums=2)(before, moved.replace(results=drawn), 1)
    np.testing.assert_array_equal(merged.tokens[..., 0], [[0, 9, 0], [0, 0, 9]])
    assert np.asarray(merged.finished).all()


def test_pieces_that_do_not_divide_the_prompts_are_refused():
    prompts, lengths = jnp.zeros((3, 2), jnp.int32), jnp.ones(3, jnp.int32)
    with pytest.raises(UserError, match="3 prompts do not divide into 2 pieces"):
        draw({}, prompts, lengths, num_samples=1, config=SAMPLER, pieces=2)
