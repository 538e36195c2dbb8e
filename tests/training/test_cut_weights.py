"""The sampler whose weights lie cut over the devices of a copy: its tokens, and what travels."""

import dataclasses
import functools
import math
import types

import jax
import numpy as np
import pytest
import toy
from programs import collectives_of

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    DecoderConfig,
    LoraConfig,
    decoder_policy,
    gathered_bytes,
    llama3,
    lora_apply,
    lora_policy,
)
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.rollouts.engine import cuts_weights, sampler_program
from gdpo_jax.training import ShardingRules, batch_sharding, replicated, shardings_for

# Sizes that no other axis has, nor any piece of one; 8 devices do not divide the vocabulary.
DECODER = DecoderConfig(
    vocab_size=577,
    d_model=40,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    d_ff=56,
    max_positions=30,
)
EVEN, HEAD = 576, {"vocab_size": 576, "tie_embeddings": False}
GEMMA = {"window": 4, "global_every": 2, "num_layers": 2, "post_norms": True, "qk_norm": True}
SAMPLER = SamplerConfig(
    max_new_tokens=9,
    stop_ids=tuple(range(0, 576, 4)),
    pad_id=0,
    halvings=1,
    fewest_rows=1,
    top_k=500,
)
LORA = LoraConfig(rank=2)


def beside(config):
    """Adapters that stay beside the fused matrices, which in float32 are merged otherwise."""
    base = decoder_policy(config)

    def unroll(params, num_positions):
        return base.unroll(lora_apply(params["base"], params["adapters"], LORA), num_positions)

    return lora_policy(base, LORA)._replace(unroll=unroll)


def arguments_on(policy, mesh, rules):
    normal = np.random.default_rng(4).normal

    def drawn(path, like):
        # B of adapters would be zero, and counts 16 times; the scales of norms are close to one.
        name = path[-1].key
        values = (0.05 if name == "b" else 0.15) * normal(size=like.shape) + (name == "scale")
        return values.astype(like.dtype)

    params = jax.tree.map_with_path(drawn, jax.eval_shape(policy.init, jax.random.key(4)))
    draw = np.random.default_rng(3)
    given = draw.integers(0, 576, (8, 6)).astype(np.int32), np.array([6, 1, 2, 3, 4, 5, 6, 3])
    return (
        jax.device_put(params, shardings_for(policy.logical_axes(), params, mesh, rules)),
        *jax.device_put(given, batch_sharding(mesh)),
        jax.device_put(jax.random.key(0), replicated(mesh)),
    )


def assert_same_rollouts(policy, shape, rules=toy.RULES):
    """Those of one device, and of cut weights, whose compiled program is returned."""
    data, fsdp, tensor = shape
    mesh = toy.mesh_of(8, data=data, fsdp=fsdp, tensor=tensor)
    rows, arguments = batch_sharding(mesh), arguments_on(policy, mesh, rules)
    config = dataclasses.replace(SAMPLER, weights="cut")
    program = sampler_program(policy, config, 4, rows, rules).lower(*arguments).compile()
    cut = program(*arguments)
    # Tokens depend neither on the rows that the loop goes on in nor on the devices: one of them,
    # which has whole weights, needs one loop.
    config = dataclasses.replace(SAMPLER, halvings=0)
    whole = sampler_program(policy, config, 4, None)(*jax.device_put(arguments, jax.devices()[0]))
    for name in ("completions", "mask", "finished"):
        np.testing.assert_array_equal(cut[name], whole[name])
    for name in ("log_probs", "sampled_log_probs"):
        np.testing.assert_allclose(cut[name], whole[name], atol=1e-5)
    # Rows end at different tokens, so that the rest goes on in fewer rows.
    assert len(set(np.asarray(whole.mask.sum(-1)).ravel())) > 3
    return program


def test_tokens_are_those_of_whole_weights_and_no_weight_travels_in_a_loop():
    program = assert_same_rollouts(decoder_policy(DECODER), (1, 8, 1))
    found = collectives_of(program.as_text())
    in_loops = [(op, sizes) for in_loop, op, sizes in found if in_loop]
    assert {"all-gather", "all-to-all", "all-reduce"} <= {op for op, _ in in_loops}
    # The smallest matrix, that behind attention; one layer's prompt is computed outside of loops.
    smallest = 4 * 16 * 40
    for op, sizes in in_loops:
        assert sum(map(math.prod, sizes)) < smallest, (op, sizes)
    # The matrices of the loops are never whole: they go from one cut to the other.
    fused = {(40, 2, 4, 16), (40, 2, 56), (577, 40), (584, 40), (40, 577), (40, 584)}
    for _, op, sizes in found:
        assert op != "all-gather" or not fused & set(sizes), sizes


@pytest.mark.parametrize(
    ("policy", "shape", "rules"),
    [
        (decoder_policy(dataclasses.replace(DECODER, **HEAD)), (2, 2, 2), toy.RULES),
        (
            decoder_policy(dataclasses.replace(DECODER, vocab_size=EVEN, **GEMMA)),
            (1, 2, 4),
            ShardingRules(kv_heads=None),
        ),
        (beside(dataclasses.replace(DECODER, vocab_size=EVEN)), (1, 4, 2), toy.RULES),
        (lora_policy(decoder_policy(DECODER), LORA), (2, 4, 1), toy.RULES),
    ],
    ids=["own head", "key heads whole, windows", "adapters beside", "adapters merged"],
)
def test_tokens_are_those_of_whole_weights_on_other_meshes(policy, shape, rules):
    assert_same_rollouts(policy, shape, rules)


def test_weights_are_cut_where_whole_ones_take_more_than_four_gib():
    rows = batch_sharding(toy.mesh_of(8, data=1, fsdp=4, tensor=2))
    cuts = functools.partial(cuts_weights, batch_sharding=rows)

    def llama(size):
        return decoder_policy(llama3(size, dtype="bfloat16"))

    assert not cuts(llama("3.2-1B"), SAMPLER)
    assert cuts(llama("3.1-8B"), SAMPLER)
    assert not cuts(llama("3.1-8B"), dataclasses.replace(SAMPLER, weights="whole"))
    assert cuts(decoder_policy(DECODER), dataclasses.replace(SAMPLER, weights="cut"))
    # What `tensor` = 2 leaves of matrices and table; norms and turns (one position) are whole.
    matrices = 40 * (2 * 4 * 16) + 40 * 2 * 56 + 4 * 16 * 40 + 56 * 40 + EVEN * 40
    policy = decoder_policy(dataclasses.replace(DECODER, vocab_size=EVEN))
    assert gathered_bytes(policy, rows) == 4 * (matrices // 2 + 3 * 40 + 16)


def test_another_model_cannot_be_cut():
    policy = decoder_policy(DECODER)._replace(config=types.SimpleNamespace(vocab_size=577))
    rows = batch_sharding(toy.mesh_of(8, data=1, fsdp=8))
    assert not cuts_weights(policy, SAMPLER, rows)
    with pytest.raises(UserError, match="'cut' is for the decoder of this library"):
        cuts_weights(policy, dataclasses.replace(SAMPLER, weights="cut"), rows)
    with pytest.raises(UserError, match="weights 'half' is unknown; legal: auto, whole, cut"):
        dataclasses.replace(SAMPLER, weights="half")
