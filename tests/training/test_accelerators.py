"""On a GPU or TPU, update and samples are those of the CPU beside it; skipped where there is none.

JAX_PLATFORMS=cuda,cpu pytest tests/training/test_accelerators.py      # or tpu,cpu
"""

import dataclasses

import jax
import numpy as np
import optax
import pytest
import toy
from test_packing import OBJECTIVES, SGD

from gdpo_jax.policies import LoraConfig, decoder_policy, lora_policy, trained_part
from gdpo_jax.rollouts import SamplerConfig, jax_engine
from gdpo_jax.training import (
    PolicyBatch,
    batch_sharding,
    create_state,
    make_log_prob_step,
    make_mesh,
    make_policy_step,
    to_global,
)
from gdpo_jax.training.packing import pack_rollout

pytestmark = pytest.mark.skipif(
    jax.default_backend() == "cpu", reason="there is no accelerator: JAX has a CPU alone"
)

B, G, P, C = 4, 8, 24, 16
STOP, PAD = 1, 0
DECODER = dataclasses.replace(
    toy.DECODER,
    vocab_size=512,
    d_model=128,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    d_ff=256,
    max_positions=64,
)


@pytest.fixture(autouse=True)
def _whole_products():
    """Float32 products in float32: accelerators take less by themselves."""
    with jax.default_matmul_precision("highest"):
        yield


def devices():
    """A CPU, and the accelerator."""
    return {"cpu": jax.devices("cpu")[:1], "accelerator": jax.devices()[:1]}


def short_groups():
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, C + 1, (B, G))
    mask = np.arange(C)[None, None] < lengths[:, :, None]
    return PolicyBatch(
        prompts=draw.integers(2, 512, (B, P)).astype(np.int32),
        prompt_lengths=draw.integers(1, P + 1, B).astype(np.int32),
        completions=draw.integers(2, 512, (B, G, C)).astype(np.int32),
        mask=mask,
        advantages=draw.normal(size=(B, G, C)).astype(np.float32),
        old_log_probs=-draw.uniform(5.5, 6.5, (B, G, C)).astype(np.float32),
        segment_ids=np.where(mask, draw.integers(-1, 3, mask.shape), -1).astype(np.int32),
    )


def gradient(devices, policy, objective, layout):
    """The update by plain gradient descent, and the metrics."""
    mesh = make_mesh(devices=devices)
    state = create_state(policy, SGD, key=jax.random.key(5), mesh=mesh)
    if policy.trained_config is not None:
        # Fresh adapters add nothing, and half of them have no gradient.
        moved = jax.tree.map(lambda x: x + 0.01, state.params["adapters"])
        state = state.replace(params={**state.params, "adapters": moved})
    before = toy.as_numpy(trained_part(policy, state.params))
    batch = to_global(short_groups(), mesh)
    if layout == "packed":
        packed = pack_rollout(toy.rollout_of(short_groups()), parts=1, mesh=mesh, pad_id=PAD)
        batch = batch.replace(packed=packed)
        assert batch.packed is not None
    step = make_policy_step(
        policy,
        SGD,
        objective,
        mesh=mesh,
        chunk=4,
        layout="plain" if layout == "plain" else "shared",
    )
    state, metrics = step(state, batch)
    after = toy.as_numpy(trained_part(policy, state.params))
    return jax.tree.map(np.subtract, before, after), toy.as_numpy(metrics.as_dict())


@pytest.mark.parametrize("layout", ["shared", "plain", "packed"])
@pytest.mark.parametrize("level", OBJECTIVES)
def test_gradients_are_those_of_the_cpu(level, layout):
    check_gradients(decoder_policy(DECODER), OBJECTIVES[level], layout, tolerance=1e-4)


def test_gradients_of_adapters_are_those_of_the_cpu():
    policy = lora_policy(decoder_policy(DECODER), LoraConfig(rank=4, alpha=8.0))
    check_gradients(policy, OBJECTIVES["token"], "shared", tolerance=1e-4)


def test_gradients_of_bfloat16_products_are_close_to_those_of_the_cpu():
    policy = decoder_policy(dataclasses.replace(DECODER, dtype="bfloat16"))
    check_gradients(policy, OBJECTIVES["token"], "shared", tolerance=2e-2)


def check_gradients(policy, objective, layout, *, tolerance):
    found = {name: gradient(where, policy, objective, layout) for name, where in devices().items()}
    (expected, metrics), (ours, our_metrics) = found["cpu"], found["accelerator"]
    difference = optax.tree.norm(jax.tree.map(np.subtract, ours, expected))
    assert optax.tree.norm(expected) > 0
    assert difference < tolerance * optax.tree.norm(expected)
    for name, value in metrics.items():
        np.testing.assert_allclose(
            our_metrics[name], value, rtol=10 * tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_samples_are_those_of_the_cpu(temperature):
    policy = decoder_policy(DECODER)
    config = SamplerConfig(max_new_tokens=C, stop_ids=(STOP,), pad_id=PAD, temperature=temperature)
    batch, rollouts = short_groups(), {}
    for name, where in devices().items():
        mesh = make_mesh(devices=where)
        state = create_state(policy, SGD, key=jax.random.key(5), mesh=mesh)
        engine = jax_engine(policy, config, batch_sharding=batch_sharding(mesh))
        rollout = engine.generate(
            state.params, batch.prompts, batch.prompt_lengths, jax.random.key(1), num_samples=G
        )
        rollouts[name] = toy.as_numpy(rollout)
        trained = make_log_prob_step(policy, mesh=mesh, temperature=temperature or 1.0, chunk=4)(
            state.params,
            prompts=rollout.prompts,
            prompt_lengths=rollout.prompt_lengths,
            completions=rollout.completions,
            mask=rollout.mask,
        )
        np.testing.assert_allclose(rollouts[name].log_probs, np.asarray(trained), atol=1e-4)
    ours, expected = rollouts["accelerator"], rollouts["cpu"]
    # A token whose draw falls between two by less than rounding may change, and what follows it.
    same = (ours.completions == expected.completions).all(axis=-1)
    assert same.mean() > 0.9
    np.testing.assert_allclose(ours.log_probs[same], expected.log_probs[same], atol=1e-4)
