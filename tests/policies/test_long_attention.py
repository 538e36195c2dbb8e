"""Attention in blocks against that of whole rows: values, gradients, memory and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from gdpo_jax.policies import (
    completion_log_probs,
    log_probs,
)
from gdpo_jax.policies.block_attention import LONG, LongKeySet, Tokens, block_attention
from gdpo_jax.policies.group_attention import grouped, packed_attention
from gdpo_jax.policies.log_probs import packed_log_probs
from gdpo_jax.policies.long_attention import long_grouped, long_packed
from gdpo_jax.policies.packing import RowShape, pack_groups
from tests.policies.attention_cases import (
    POLICY,
    WINDOW,
    assert_close,
    batch,
    both,
    exponentials,
    row,
    values_and_gradients,
)

EXCHANGES = ("all-reduce", "all-gather", "all-to-all", "collective-permute")


@settings(deadline=None, max_examples=4)
@given(
    seed=st.integers(0, 1000),
    prompt=st.integers(1, 20),
    samples=st.integers(1, 3),
    length=st.integers(1, 30),
    shared=st.sampled_from([1, 2]),
    local=st.sampled_from([None, True, False]),
)
def test_blocks_give_what_whole_rows_give(seed, prompt, samples, length, shared, local):
    lengths = [prompt, 1]
    sizes = {"prompt": prompt, "samples": samples, "length": length}
    arrays, weights = row(seed, lengths=lengths, heads=2 * shared, **sizes)
    whole, blocks = both(lengths, **sizes, window=WINDOW)
    expected = values_and_gradients(whole, arrays, weights, local)
    assert_close(values_and_gradients(blocks, arrays, weights, local), expected)


def test_a_scanned_flag_says_which_layers_see_their_window_only():
    sizes = {"prompt": 5, "samples": 2, "length": 21}
    arrays, weights = row(0, lengths=[5, 3], **sizes)
    whole, blocks = both([5, 3], **sizes, window=WINDOW)

    @jax.jit
    def scanned(arrays):
        def layer(carry, local):
            return carry, blocks(*arrays, None, local)[0] * weights

        return jax.lax.scan(layer, None, jnp.array([True, False]))[1]

    expected = [values_and_gradients(whole, arrays, weights, local)[0] for local in (True, False)]
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    assert_close(scanned(arrays), expected)


def test_the_heads_of_a_large_model_at_a_length_that_both_can_hold():
    """Four queries a key, heads of 128, C = 256: the whole path's values and gradients."""
    sizes = {"prompt": 72, "samples": 2, "length": 256}
    arrays, weights = row(1, lengths=[60], heads=8, size=128, **sizes)
    whole, blocks = both([60], **sizes, block=128)
    expected = values_and_gradients(whole, arrays, weights)
    assert_close(values_and_gradients(blocks, arrays, weights), expected, 5e-6)


def test_bfloat16_stays_close_to_float32():
    sizes = {"prompt": 12, "samples": 2, "length": 40}
    arrays, weights = row(2, lengths=[12], **sizes)
    whole, blocks = both([12], **sizes)
    expected = values_and_gradients(whole, arrays, weights)
    short = [x.astype(jnp.bfloat16) for x in arrays]
    found = values_and_gradients(blocks, short, weights)
    assert all(x.dtype == jnp.bfloat16 for x in found[1:])
    assert_close(found, expected, 0.03)


def test_gradients_against_finite_differences():
    draw = np.random.default_rng(3).normal
    shapes = [(1, 2, 2, 5, 4), (1, 3, 4), (1, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)]
    arrays = [draw(size=shape).astype(np.float32) for shape in shapes]
    slots = np.arange(5, dtype=np.int32)[None, None, None]
    one = np.zeros_like(slots)

    def attention(queries, *keys):
        prompt = Tokens(jnp.array([[[[0, 0, 1]]]]), jnp.arange(3)[None, None, None])
        sets = (
            LongKeySet(*keys[:2], Tokens(one, slots + 3), prompt),
            LongKeySet(*keys[2:], Tokens(one, slots), Tokens(one, slots)),
        )
        return block_attention(queries, sets, own=(False, True), reach=jnp.array(4), block=3)

    check_grads(jax.jit(attention), arrays, order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


def test_a_query_that_sees_nothing_gets_zeros_and_gives_no_gradient():
    at = np.arange(4, dtype=np.int32)[None]
    seeing, seen = Tokens(np.array([[0, 0, 7, 0]], np.int32), at), Tokens(np.zeros_like(at), at)

    @jax.jit
    def values_and_changes(queries, keys, only):
        def attention(queries, keys, values):
            return block_attention(queries, [LongKeySet(keys, values, seeing, seen)], own=[True])

        mixed, pull = jax.vjp(attention, queries, keys, keys)
        return mixed, pull(only)

    ones, only = np.ones((1, 4, 4), np.float32), np.zeros((1, 4, 4), np.float32)
    only[:, 2] = 1.0
    mixed, changes = jax.device_get(values_and_changes(ones, ones, only))
    np.testing.assert_array_equal(mixed[0, :, 0], [1, 1, 0, 1])
    for change in changes:
        np.testing.assert_array_equal(change, np.zeros_like(change))


def test_under_vmap_and_with_a_row_of_its_own_each():
    sizes = {"prompt": 6, "samples": 2, "length": 11}
    arrays, _ = row(4, lengths=[6, 2, 4], **sizes)

    def attend(length, *arrays):
        options = {"prompt_size": 6, "num_samples": 2, "length": 11, "block": 8}
        return long_grouped(length[None], **options)(*(x[None] for x in arrays), None, None)[0][0]

    lengths = np.array([6, 2, 4], np.int32)
    apart = jax.jit(jax.vmap(attend))(lengths, *arrays)
    whole = jax.jit(lambda *arrays: both(lengths, **sizes)[0](*arrays, None, None)[0])(*arrays)
    np.testing.assert_allclose(apart[:, 6:], whole[:, 6:], atol=1e-6)


def temporary_bytes(attend_of, length):
    prompt, samples = 64, 2
    shapes = [(1, prompt + samples * length, n, 16) for n in (4, 1, 1)]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]

    def loss(*arrays):
        lengths = jnp.array([prompt], jnp.int32)
        attend = attend_of(lengths, prompt_size=prompt, num_samples=samples, length=length)
        return jnp.sum(attend(*arrays, None, None)[0].astype(jnp.float32) ** 2)

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*arrays).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_length_and_not_with_its_square():
    """A sixteenth of the prompt, heads and head size of the table in docs/architecture.md."""

    def whole(lengths, *, length, **options):
        return grouped(lengths, **options)

    blocks = functools.partial(long_grouped, block=64)
    one, two = (temporary_bytes(blocks, length) for length in (1024, 2048))
    assert one < two < 2.2 * one
    assert temporary_bytes(whole, 1024) > 10 * one


def loss_and_gradient(params, function):
    def loss(params):
        values, entropy = function(params)
        return jnp.sum(jnp.sin(values) + entropy**2)

    return jax.jit(jax.value_and_grad(loss))(params)


@functools.cache
def of_short_completions():
    """The loss and the gradient that all layouts are compared with."""
    params, arrays, _ = batch()
    return loss_and_gradient(params, lambda p: completion_log_probs(POLICY, p, *arrays))


@pytest.mark.parametrize("layout", ["shared", "plain", "packed"])
def test_all_layouts_of_long_completions_have_the_loss_of_short_ones(layout, monkeypatch):
    params, arrays, lengths = batch()
    expected = of_short_completions()
    monkeypatch.setattr(log_probs, "LONG", 0)
    if layout == "packed":
        shape = RowShape(14, 3, 18)
        cells = [x[None] for x in (arrays[0], arrays[1], arrays[2], lengths)]
        packed = pack_groups(*cells, shape, rows=1, pad_id=0)
        packed = packed.replace(places=packed.places[0])
        found = loss_and_gradient(params, lambda p: packed_log_probs(POLICY, p, packed, arrays[3]))
    else:
        options = {"layout": layout, "chunk": 5}
        found = loss_and_gradient(
            params, lambda p: completion_log_probs(POLICY, p, *arrays, **options)
        )
    assert_close(jax.tree.leaves(found), jax.tree.leaves(expected), 2e-5)


def test_packed_rows_in_blocks_are_those_of_whole_bins():
    """Two groups in one row; bins that hold completions of both, and blocks that end inside."""
    draw = np.random.default_rng(7).integers
    cells = draw(0, 9, (1, 2, 7)), np.array([[7, 4]]), draw(0, 9, (1, 2, 2, 12))
    packed = pack_groups(
        *cells, np.array([[[12, 4], [7, 1]]]), RowShape(14, 2, 20), rows=1, pad_id=0
    )
    rows = jax.tree.map(lambda x: x[0], packed.replace(places=None))
    arrays, weights = row(8, lengths=[11], prompt=14, samples=2, length=20)
    real = np.concatenate([rows.prompt_group[0] >= 0, rows.completion_group.ravel() >= 0])
    weights = weights * real.astype(np.float32)[None, :, None, None]

    def on_device():
        return jax.tree.map(jnp.asarray, rows)

    def whole(*arguments):
        return packed_attention(on_device(), window=WINDOW)(*arguments)

    def blocks(*arguments):
        return long_packed(on_device(), window=WINDOW, block=8)(*arguments)

    expected = values_and_gradients(whole, arrays, weights, True)
    assert_close(values_and_gradients(blocks, arrays, weights, True), expected)


def test_short_completions_keep_their_path(monkeypatch):
    params, arrays, _ = batch()
    assert LONG == 512

    def refuse(*_, **__):
        raise AssertionError("a short completion ran in blocks")

    monkeypatch.setattr(log_probs, "long_grouped", refuse)
    for layout in ("shared", "plain"):
        jax.eval_shape(lambda p: completion_log_probs(POLICY, p, *arrays, layout=layout), params)  # noqa: B023
    monkeypatch.setattr(log_probs, "LONG", 17)
    with pytest.raises(AssertionError, match="in blocks"):
        jax.eval_shape(lambda p: completion_log_probs(POLICY, p, *arrays), params)


def test_devices_cut_rows_and_heads_without_exchanging_any():
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    sizes = {"prompt": 6, "samples": 2, "length": 24}
    lengths = [6, 2, 4, 3]
    arrays, weights = row(9, lengths=lengths, **sizes)
    expected = values_and_gradients(both(lengths, **sizes)[0], arrays, weights)
    cut = NamedSharding(mesh, PartitionSpec("data", None, "tensor"))
    of_rows = NamedSharding(mesh, PartitionSpec("data"))

    def gradients(lengths, arrays):
        options = {"prompt_size": 6, "num_samples": 2, "length": 24, "block": 8}

        def loss(arrays):
            return jnp.sum(long_grouped(lengths, **options)(*arrays, None, None)[0] * weights)

        return jax.grad(loss)(arrays)

    step = jax.jit(gradients, in_shardings=(of_rows, [cut] * 3), out_shardings=[cut] * 3)
    program = step.lower(jnp.asarray(lengths), arrays).compile()
    assert_close(
        program(*jax.device_put((jnp.asarray(lengths), arrays), (of_rows, [cut] * 3))), expected[1:]
    )
    text = program.as_text()
    assert "while" in text
    for exchange in EXCHANGES:
        assert exchange not in text


def test_scores_of_the_three_products_are_computed_twice_or_where_layers_are_three_times():
    options = {"prompt_size": 32, "num_samples": 1, "length": 32, "block": 32}

    def attend(*arguments):
        return long_grouped(jnp.array([32]), **options)(*arguments)

    counts = [
        exponentials(attend, size=32 * 32, length=64, remat=remat)
        for remat in ("none", "dots", "layer")
    ]
    assert counts == [6, 6, 9]
