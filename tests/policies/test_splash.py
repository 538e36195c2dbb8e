"""The TPU kernel of long completions: its values, its programs for a pod, and where it runs."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gdpo_jax.planning.chips import open_pod
from gdpo_jax.policies import (
    Placement,
    ShardingRules,
    completion_log_probs,
    decoder_policy,
    log_probs,
    pin_rows,
)
from gdpo_jax.policies.long_attention import long_grouped
from gdpo_jax.policies.splash import splash_grouped
from gdpo_jax.training import MeshConfig, batch_sharding, make_mesh
from tests.policies.attention_cases import (
    CONFIG,
    POLICY,
    WINDOW,
    assert_close,
    batch,
    both,
    row,
    values_and_gradients,
)

EXCHANGES = ("all-reduce", "all-gather", "all-to-all", "collective-permute")


@pytest.mark.parametrize("mesh_shape", [None, (2, 2)])
def test_the_kernel_of_tpus_gives_what_whole_rows_give(mesh_shape):
    """Its tiles computed on a CPU; prompts with padding, rows that tiles do not divide."""
    sizes = {"prompt": 20, "samples": 2, "length": 130}
    arrays, weights = row(10, lengths=[20, 7], size=128, **sizes)
    policy = decoder_policy(dataclasses.replace(CONFIG, window=None))
    if mesh_shape is not None:
        types = (AxisType.Auto,) * 2
        mesh = jax.make_mesh(mesh_shape, ("data", "tensor"), axis_types=types)
        rows = NamedSharding(mesh, PartitionSpec("data"))
        policy = pin_rows(policy, rows, rules=ShardingRules(embed=None))
        assert policy.placement.platform == "cpu"
    options = {"prompt_size": 20, "num_samples": 2, "tile": 128, "interpret": True}
    kernel = splash_grouped(jnp.array([20, 7]), policy.placement, **options)
    expected = values_and_gradients(both([20, 7], **sizes)[0], arrays, weights)
    assert_close(values_and_gradients(kernel, arrays, weights), expected, 1e-5)


@pytest.mark.tpu_compiler
def test_the_kernel_compiles_for_a_pod_of_tpus():
    """Three kernels, forward and backward; rows and heads are cut and nothing is exchanged."""
    pytest.importorskip("libtpu")
    mesh = make_mesh(MeshConfig(1, 2, 2), open_pod("v5e:2x2").devices)
    of_rows = batch_sharding(mesh)
    cut = NamedSharding(mesh, PartitionSpec(*of_rows.spec, None, "tensor"))
    placement = pin_rows(POLICY, of_rows).placement
    assert placement.platform == "tpu"
    shapes = [(2, 96 + 2 * 600, heads, 128) for heads in (8, 2, 2)]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=cut) for shape in shapes]

    def loss(arrays, lengths):
        attend = splash_grouped(lengths, placement, prompt_size=96, num_samples=2)
        return jnp.sum(attend(*arrays, None, None)[0].astype(jnp.float32))

    step = jax.jit(jax.grad(loss), out_shardings=[cut] * 3)
    lengths = jax.ShapeDtypeStruct((2,), jnp.int32, sharding=of_rows)
    text = step.lower(arrays, lengths).compile().as_text()
    assert text.count('custom_call_target="tpu_custom_call"') == 3
    for exchange in EXCHANGES:
        assert exchange not in text


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({}, True),
        ({"window": WINDOW}, False),
        ({"dtype": "float32"}, False),
        ({"head_dim": 64}, False),
    ],
)
def test_the_kernel_runs_on_tpus_and_where_it_serves(changes, served, monkeypatch):
    arrays, called = batch()[1], []

    def kernel(lengths, placement, **sizes):
        def attend(*args):
            called.append(placement.platform)
            return long_grouped(lengths, **sizes, length=arrays[2].shape[2])(*args)

        return attend

    monkeypatch.setattr(log_probs, "LONG", 0)
    monkeypatch.setattr(log_probs, "splash_grouped", kernel)
    base = dataclasses.replace(CONFIG, window=None, remat="none", dtype="bfloat16", head_dim=128)
    policy = decoder_policy(dataclasses.replace(base, **changes))
    params = jax.eval_shape(policy.init, jax.random.key(0))
    for platform in (None, "cpu", "tpu"):
        placed = policy._replace(placement=Placement(platform=platform))
        for layout in ("shared", "plain"):
            jax.eval_shape(
                lambda p: completion_log_probs(placed, p, *arrays, layout=layout),  # noqa: B023
                params,
            )
    assert set(called) == ({"tpu"} if served else set())
