"""Compiled programs read as text: trips of loops, products, traffic and exchanges."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from gdpo_jax.errors import UserError
from gdpo_jax.planning import work_of
from tests.training import toy

# What a TPU compiler writes and a CPU's does not: a loop that counts by two, a product as a
# convolution, of which half the pairs fall on padding, weights that a fusion reads through another
# one, of one layer or of all but for a slice, one exchange that two fusions share, a scatter of a
# sum, arrays inside of the chip, and cycles.
TPU = (Path(__file__).parent / "tpu_program.txt").read_text()


def test_a_tpu_program_is_read_as_it_runs():
    work = work_of(TPU, 4)
    # Three turns of [8, 16] x [16, 4], [2 results x 2 taps, of which 2 meet an input], and twice
    # [2, 4, 6] x [6, 4].
    assert work.flops == 3 * 2 * 8 * 16 * 4 + 2 * 2 * 4 * 4 * 6 + 2 * (2 * 2 * 4 * 4 * 6)
    assert work.cycles == 300
    # A gather in groups of two by two fusions, once; a sum of 32 bytes scattered over four, and one
    # that all four keep.
    expected = {"all-gather": (1, 128), "all-reduce": (1, 48), "reduce-scatter": (1, 24)}
    assert work.by_kind() == expected
    # The loop reads a slice of its weights and counts; what lies inside of the chip is no traffic.
    turns, gathers, batched, sums = 3 * (4 * 16 * 2 + 12), 2 * 4 * 16 * 2, 2 * 96, 32 + 8 + 2 * 32
    # Of the stack of layers in bytes the slice alone is read, whatever its layout becomes.
    viewed, of_layer = 2 * (2 * 4 * 6 + 6 * 4), 2 * 2 * 4 * 6 + 6 * 4
    assert work.traffic == turns + gathers + batched + viewed + of_layer + sums


def test_a_text_that_is_no_program_is_an_error():
    with pytest.raises(UserError, match="no ENTRY"):
        work_of("HloModule nothing", 1)


def compiled_text(function, *shapes, spec=None):
    mesh = toy.mesh_of(8, data=8)
    sharding = jax.NamedSharding(mesh, PartitionSpec() if spec is None else spec)
    given = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding) for shape in shapes]
    return jax.jit(function).lower(*given).compile().as_text()


def test_scans_count_as_often_as_they_run_and_open_loops_as_often_as_they_may():
    def scanned(x, w):
        def body(y, _):
            return jnp.tanh(y @ w), None

        return jax.lax.scan(body, x, None, length=5)[0]

    def stopping(x, w):
        def unfinished(state):
            return (state[1] < 100) & (jnp.max(state[0]) < 9.0)

        def body(state):
            return jnp.tanh(state[0] @ w), state[1] + 1

        once = jax.lax.while_loop(unfinished, body, (x, 0))
        return jax.lax.while_loop(unfinished, body, once)[0]

    one = 2 * 16 * 16 * 16
    shapes = ((16, 16), (16, 16))
    assert work_of(compiled_text(scanned, *shapes), 8).flops == 5 * one
    # The second loop goes on where the first one ended.
    assert work_of(compiled_text(stopping, *shapes), 8, open_steps=7).flops == 7 * one


def test_what_a_chip_sends_is_what_a_ring_sends():
    def mean(x):
        return x - jnp.mean(x, axis=0, keepdims=True)

    found = work_of(compiled_text(mean, (64, 32), spec=PartitionSpec("data")), 8)
    assert found.by_kind() == {"all-reduce": (1, 2 * 32 * 4 * 7 // 8)}
    assert [(each.group, each.times) for each in found.collectives] == [(8, 1)]
