"""What travels between devices in a training step, read from the compiled program."""

import dataclasses
import math
import re

import jax
import numpy as np
import pytest
import toy
from programs import collectives_of

from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.planning.abstract import abstract_batch
from gdpo_jax.policies import LoraConfig, decoder_policy, lora_policy
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.rollouts.engine import sampler_program
from gdpo_jax.training import (
    ShardingRules,
    batch_sharding,
    make_log_prob_step,
    make_optimizer,
    make_policy_step,
)
from gdpo_jax.training.state import abstract_state

# Sizes that no other axis has, nor any piece of one.
VOCAB, PROMPTS, SAMPLES, PROMPT, COMPLETION = 8 * 67, 16, 2, 7, 12
WIDTH, LENGTH = toy.DECODER.d_model, PROMPT + SAMPLES * COMPLETION
OPTIMIZER = make_optimizer(toy.OPTIMIZER)


def collectives(shape, *, adapters=False, tied=True):
    """Those of the policy step."""
    policy = decoder_policy(
        dataclasses.replace(
            toy.DECODER, num_kv_heads=2, vocab_size=VOCAB, tie_embeddings=tied, remat="layer"
        )
    )
    if adapters:
        policy = lora_policy(policy, LoraConfig(rank=2))
    data, fsdp, tensor = shape
    mesh = toy.mesh_of(8, data=data, fsdp=fsdp, tensor=tensor)
    batch = abstract_batch(
        prompts=PROMPTS,
        num_samples=SAMPLES,
        prompt_length=PROMPT,
        completion_length=COMPLETION,
        mesh=mesh,
    )
    step = make_policy_step(policy, OPTIMIZER, ObjectiveConfig(), mesh=mesh, chunk=4)
    hlo = step.lower(abstract_state(policy, OPTIMIZER, mesh=mesh), batch).compile().as_text()
    return collectives_of(hlo)


@pytest.mark.parametrize("adapters", [False, True], ids=["all parameters", "adapters"])
@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (2, 4, 1), (2, 2, 2)], ids=str)
def test_neither_the_vocabulary_nor_all_rows_travel_in_a_step(shape, adapters):
    found = collectives(shape, adapters=adapters)
    assert any(in_loop for in_loop, _, _ in found) or adapters
    slices = {VOCAB // pieces for pieces in (1, 2, 4, 8)}
    for in_loop, op, sizes in found:
        assert not (in_loop and any(slices & set(dims) for dims in sizes)), (op, sizes)
        whole = PROMPTS * LENGTH * WIDTH
        assert sum(math.prod(dims) for dims in sizes if LENGTH in dims) < whole, (op, sizes)
    summed = [
        dims
        for _, op, sizes in found
        for dims in sizes
        if op in ("all-reduce", "reduce-scatter") and slices & set(dims)
    ]
    # One sum over the copies of the table for all chunks of logits, and one for the lookup.
    assert len(summed) == (2 if shape[0] > 1 and not adapters else 0)


def test_a_head_of_its_own_is_summed_once_too():
    found = collectives((8, 1, 1), tied=False)
    tables = [dims for _, _, sizes in found for dims in sizes if VOCAB in dims]
    assert sorted(tables) == [(WIDTH, VOCAB), (VOCAB, WIDTH)]
    assert not any(in_loop and (WIDTH, VOCAB) in sizes for in_loop, _, sizes in found)


# The embedding over `tensor` and everything else over `fsdp`: the default the other way round.
TURNED = ShardingRules(vocab="fsdp", embed="tensor", heads=None, kv_heads=None, mlp=None)


def test_a_table_of_ones_own_reaches_log_probs_and_the_sampler():
    mesh = toy.mesh_of(8, data=2, fsdp=2, tensor=2)
    rows = batch_sharding(mesh)
    draw = np.random.default_rng(0)
    given = (
        draw.integers(0, 14, (8, 4)).astype(np.int32),
        np.full(8, 3, np.int32),
        draw.integers(0, 14, (8, 2, 5)).astype(np.int32),
        np.ones((8, 2, 5), bool),
    )

    def state_on(mesh, rules):
        return toy.fresh_state(mesh, OPTIMIZER, rules=rules).params

    params = state_on(mesh, TURNED)
    step = make_log_prob_step(toy.POLICY, mesh=mesh, rules=TURNED, chunk=None)
    arguments = (params, *jax.device_put(given, rows))
    cut = re.findall(r"sharding_constraint.*", step.lower(*arguments).as_text())
    # The vocabulary's axis comes first, and embeddings are exchanged over the embedding's own.
    assert any('{"fsdp", "tensor"}' in line for line in cut)
    assert not any('{"tensor", "fsdp"}' in line for line in cut)
    assert any('[{"data", "fsdp"}, {}, {"tensor"}]' in line for line in cut)
    one = make_log_prob_step(toy.POLICY, mesh=toy.mesh_of(1), chunk=None)
    expected = one(state_on(toy.mesh_of(1), toy.RULES), *given)
    np.testing.assert_allclose(step(*arguments), expected, atol=1e-5)

    config = SamplerConfig(max_new_tokens=4, stop_ids=(toy.STOP,), pad_id=toy.PAD)
    program = sampler_program(toy.POLICY, config, 2, rows, TURNED)
    lowered = program.lower(params, *jax.device_put(given[:2], rows), jax.random.key(0)).as_text()
    cut = re.findall(r"sharding_constraint.*", lowered)
    # Weights for decoding are whole: nothing but looked-up embeddings lies over `tensor`.
    assert cut and all('{"tensor"}' not in line or '"data"' in line for line in cut)
