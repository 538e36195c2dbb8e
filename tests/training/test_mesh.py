"""Mesh, sharding table, and the border between host rows and device arrays."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from gdpo_jax.errors import UserError
from gdpo_jax.policies import LoraConfig, lora_policy, pin_rows
from gdpo_jax.policies.attention import masked
from gdpo_jax.training import (
    MeshConfig,
    ShardingRules,
    batch_sharding,
    check_batch,
    make_mesh,
    process_share,
    shardings_for,
    to_global,
    to_local,
)

ABSTRACT = {
    "wide": jax.ShapeDtypeStruct((16, 12), jnp.float32),
    "one": jax.ShapeDtypeStruct((12,), jnp.float32),
}
LOGICAL = {"wide": ("vocab", "embed"), "one": ("embed",)}


def test_the_free_axis_takes_what_is_left():
    assert dict(make_mesh().shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    mesh = make_mesh(MeshConfig(data=2, fsdp=-1, tensor=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 8, 1), (-1, 16, 1)])
def test_sizes_that_do_not_fit_name_those_that_do(sizes):
    with pytest.raises(UserError, match=r"does not fit 8 devices.*\[1, 2, 4, 8\]"):
        make_mesh(MeshConfig(*sizes))


def test_the_table_decides_where_axes_go():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    specs = jax.tree.map(lambda s: s.spec, shardings_for(LOGICAL, ABSTRACT, mesh))
    assert specs == {"wide": jax.P("tensor", "fsdp"), "one": jax.P("fsdp")}
    turned = dataclasses.replace(ShardingRules(), vocab=None, embed="tensor")
    specs = jax.tree.map(lambda s: s.spec, shardings_for(LOGICAL, ABSTRACT, mesh, turned))
    assert specs == {"wide": jax.P(None, "tensor"), "one": jax.P("tensor")}


def test_every_parameter_of_the_decoder_has_a_rule():
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    abstract = jax.eval_shape(toy.POLICY.init, jax.random.key(0))
    shardings = shardings_for(toy.POLICY.logical_axes(), abstract, mesh)
    assert jax.tree.structure(shardings) == jax.tree.structure(abstract)
    split = [s for s in jax.tree.leaves(shardings) if "fsdp" in s.spec]
    assert len(split) == len(jax.tree.leaves(abstract))


@pytest.mark.parametrize("policy", [toy.POLICY, lora_policy(toy.POLICY, LoraConfig(rank=2))])
def test_pinned_rows_stay_on_their_devices_under_sharded_parameters(policy):
    mesh = toy.mesh_of(8, data=1, fsdp=8)
    abstract = jax.eval_shape(policy.init, jax.random.key(0))
    shardings = shardings_for(policy.logical_axes(), abstract, mesh)
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.float32(draw.normal(scale=0.2, size=leaf.shape)), abstract
    )
    params = jax.device_put(params, shardings)
    tokens = np.arange(16 * 4, dtype=np.int32).reshape(16, 4) % 14
    see = masked(jnp.tril(jnp.ones((16, 4, 4), bool)))

    def hidden(policy, params, tokens):
        positions = jnp.broadcast_to(jnp.arange(4)[None], tokens.shape)
        return policy.hidden_states(params, tokens, positions, see)[0]

    pinned = jax.jit(functools.partial(hidden, pin_rows(policy, batch_sharding(mesh))))
    found = pinned(params, jax.device_put(tokens, batch_sharding(mesh)))
    assert found.sharding.is_equivalent_to(batch_sharding(mesh), 3)
    np.testing.assert_allclose(found, hidden(policy, params, tokens), atol=1e-5)


IMPOSSIBLE = [
    (LOGICAL, {}, r"one: axis 'embed' of size 12 .* fsdp=8; use fsdp in \[1, 2, 3, 4, 6\]"),
    (LOGICAL, {"embed": "tensor", "vocab": "tensor"}, "parameter wide would use a mesh axis twice"),
    ({**LOGICAL, "one": ("colour",)}, {}, r"parameter one has logical axes \['colour'\]; known"),
    ({**LOGICAL, "one": ()}, {}, r"parameter one of shape \(12,\) has logical axes \(\)"),
    (LOGICAL, {"embed": "pipeline"}, "rule embed -> pipeline: the mesh has axes"),
]


@pytest.mark.parametrize(("logical", "rules", "message"), IMPOSSIBLE)
def test_impossible_rules_name_the_parameter(logical, rules, message):
    mesh = make_mesh(MeshConfig(data=1, fsdp=8))
    with pytest.raises(UserError, match=message):
        shardings_for(logical, ABSTRACT, mesh, dataclasses.replace(ShardingRules(), **rules))


def test_rows_go_to_the_mesh_and_back():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    rows = {"a": np.arange(24).reshape(8, 3), "b": np.arange(4) > 1, "none": None}
    placed = to_global(rows, mesh)
    assert placed["a"].sharding == batch_sharding(mesh)
    assert placed["a"].addressable_shards[0].data.shape == (2, 3)
    assert process_share(mesh) == (0, 1)
    jax.tree.map(np.testing.assert_array_equal, to_local(placed), rows)


def test_batches_must_divide_and_the_message_names_sizes_that_do():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    check_batch(16, mesh, parts=4)
    with pytest.raises(
        UserError, match=r"prompts_per_step 12 .* by 8 \(2 micro-batches x 4 .* use 8, 16, 24"
    ):
        check_batch(12, mesh, parts=2, what="prompts_per_step")
