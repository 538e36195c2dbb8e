"""Attention with its gradients written out, against softmax as it is usually written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from gdpo_jax.policies.attention import masked
from gdpo_jax.policies.softmax_attention import KeySet, softmax_attention
from tests.policies.attention_cases import exponentials


def make(seed=0, *, shape=(2, 3, 4, 2, 5), own=6, shared=7, size=8, dtype=jnp.float32):
    """Queries [B,J,G,R,T,K], keys of their own [B,J,G,S,K], and keys that G, R and T share."""
    draw = np.random.default_rng(seed)

    def normal(*sizes):
        return draw.normal(size=sizes).astype(dtype)

    b, j, g, _, t = shape
    queries = normal(*shape, size)
    common = KeySet(
        normal(b, j, shared, size),
        normal(b, j, shared, size),
        draw.random((b, 1, 1, 1, 1, shared)) < 0.6,
    )
    apart = KeySet(
        normal(b, j, g, own, size),
        normal(b, j, g, own, size),
        draw.random((1, 1, g, 1, t, own)) < 0.6,
    )
    return queries, (common, apart)


attend = jax.jit(softmax_attention)


@jax.jit
def plain(queries, sets):
    """One joined array of keys for every query, and `jax.nn.softmax`."""
    keys, values, masks = [], [], []
    for one in sets:
        between = queries.ndim - one.keys.ndim
        lead = one.keys.ndim - 2
        for found, array in ((keys, one.keys), (values, one.values)):
            array = jnp.expand_dims(array, tuple(range(lead, lead + between + 1)))
            found.append(jnp.broadcast_to(array, (*queries.shape[:-1], *array.shape[-2:])))
        masks.append(jnp.broadcast_to(one.mask, (*queries.shape[:-1], one.mask.shape[-1])))
    keys, values = jnp.concatenate(keys, axis=-2), jnp.concatenate(values, axis=-2)
    scores = jnp.sum(queries[..., None, :] * keys, axis=-1) * queries.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(jnp.concatenate(masks, axis=-1), scores, -1e30), axis=-1)
    return jnp.sum(weights[..., None] * values, axis=-2)


def weighed(attention, weights):
    """Gradients of a weighted sum of the outputs to queries, keys and values."""

    def loss(queries, arrays, masks):
        sets = tuple(KeySet(*pair, mask) for pair, mask in zip(arrays, masks))
        return jnp.sum(weights * attention(queries, sets).astype(jnp.float32))

    return jax.jit(jax.grad(loss, argnums=(0, 1)))


def apart(sets):
    return [one[:2] for one in sets], [one.mask for one in sets]


@pytest.mark.parametrize("count", [1, 2])
def test_values_and_gradients_are_those_of_softmax(count):
    queries, sets = make()
    sets = sets[-count:]
    weights = np.random.default_rng(1).normal(size=queries.shape).astype(np.float32)
    np.testing.assert_allclose(attend(queries, sets), plain(queries, sets), atol=1e-6)
    found = [weighed(f, weights)(queries, *apart(sets)) for f in (softmax_attention, plain)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *found)


def test_by_hand():
    """Scores 0 and log 3 give weights 1/4 and 3/4."""
    queries = np.array([[2 * np.log(3.0), 0.0, 0.0, 0.0]], np.float32)
    keys = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [9, 9, 9, 9]], np.float32)
    values = np.array([[4.0, 0, 0, 0], [0, 4, 0, 0], [7, 7, 7, 7]], np.float32)
    sets = (KeySet(keys, values, np.array([[True, True, False]])),)
    np.testing.assert_allclose(attend(queries, sets), [[1, 3, 0, 0]], atol=1e-6)


def test_gradients_against_finite_differences():
    queries, sets = make(shape=(1, 2, 2, 1, 2), own=3, shared=2, size=4)
    arrays, masks = apart(sets)

    @jax.jit
    def attention(queries, arrays):
        return softmax_attention(
            queries, tuple(KeySet(*pair, mask) for pair, mask in zip(arrays, masks))
        )

    check_grads(attention, (queries, arrays), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 30.0]), shift=st.floats(-5, 5))
def test_a_mean_of_the_values_that_are_seen(seed, scale, shift):
    queries, sets = make(seed, shape=(1, 1, 2, 1, 3), own=4, shared=3, size=4)
    queries = queries * np.float32(scale)
    mixed = np.asarray(attend(queries, sets))
    shift = np.float32(shift)
    moved = [one._replace(values=one.values + shift) for one in sets]
    np.testing.assert_allclose(attend(queries, tuple(moved)), mixed + shift, atol=1e-4)


def test_a_query_that_sees_nothing_has_finite_values_and_gradients():
    queries, sets = make()
    sets = tuple(one._replace(mask=np.zeros_like(one.mask)) for one in sets)
    weights = np.ones(queries.shape, np.float32)
    np.testing.assert_allclose(attend(queries, sets), plain(queries, sets), atol=1e-6)
    found = [weighed(f, weights)(queries, *apart(sets)) for f in (softmax_attention, plain)]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found[0]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *found)


def test_what_is_hidden_changes_nothing():
    queries, sets = make()
    sets = tuple(
        one._replace(mask=one.mask & (np.arange(one.mask.shape[-1]) > 1).reshape(1, 1, 1, 1, 1, -1))
        for one in sets
    )

    def overwritten(x):
        return np.concatenate([np.full_like(x[..., :2, :], 99.0), x[..., 2:, :]], axis=-2)

    other = tuple(
        one._replace(keys=overwritten(one.keys), values=overwritten(one.values)) for one in sets
    )
    np.testing.assert_allclose(attend(queries, other), attend(queries, sets))


def test_bfloat16_stays_close_and_gives_its_dtype_back():
    queries, sets = make(dtype=jnp.bfloat16)
    exact, exact_sets = make()
    weights = np.random.default_rng(1).normal(size=queries.shape).astype(np.float32)
    assert attend(queries, sets).dtype == jnp.bfloat16
    ours = weighed(softmax_attention, weights)(queries, *apart(sets))
    theirs = weighed(softmax_attention, weights)(exact, *apart(exact_sets))

    def close(a, b):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(np.float32), b, atol=0.03 * np.abs(b).max())

    jax.tree.map(close, *jax.device_get((ours, theirs)))


def test_nothing_of_the_size_of_the_scores_is_kept():
    queries, sets = make(shape=(1, 1, 2, 1, 40), own=50, shared=60, size=4)
    _, pull = jax.vjp(lambda q: softmax_attention(q, sets), jnp.asarray(queries))
    kept = [leaf.size for leaf in jax.tree.leaves(pull) if leaf.dtype == jnp.float32]
    assert kept
    assert max(kept) == sets[1].keys.size < 80 * 50


def test_scores_are_computed_twice_and_a_third_time_where_whole_layers_are():
    attend = masked(jnp.tril(jnp.ones((1, 32, 32), bool)))
    counts = [
        exponentials(attend, size=32 * 32, length=32, remat=remat)
        for remat in ("none", "dots", "layer")
    ]
    assert counts == [2, 2, 3]
