"""Sharded over prompts: the same numbers on 1, 2 and 8 devices, and the collectives they cost."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from gdpo_jax.advantages import (
    any_reward_varies,
    append_reward,
    compute_advantages,
    constrained_grpo,
    corr_grpo,
    dvao,
    gd2po,
    gdpo,
    grpo,
    mask_samples,
    papo,
    reinforce_pp,
    reward_batch,
    rloo,
    sa_mrpo,
    saw,
)

BATCH, GROUP, NAMES = 16, 4, ("a", "b", "c")
GDPO, BY_TOKEN, GRPO, GRPO_BATCH = gdpo(), gdpo(convention="verl"), grpo(), grpo(scale="batch")

FAST_COMPILE = {"xla_backend_optimization_level": 0}


def values_of(transform, rewards, state, lengths):
    return compute_advantages(transform, rewards, state, lengths=lengths)[0].values


VALUES = jax.jit(values_of, static_argnums=0, compiler_options=FAST_COMPILE)
COMPUTE = jax.jit(compute_advantages, static_argnums=0, compiler_options=FAST_COMPILE)


def make_rewards(ranks=()):
    rng = np.random.default_rng(3)
    values = rng.normal(size=(BATCH, GROUP, len(NAMES), *ranks)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    values[3] = 1.0
    return reward_batch(values, NAMES)


LENGTHS = np.arange(BATCH * GROUP, dtype=np.float32).reshape(BATCH, GROUP) % 7 + 1


def compiled_on(devices, transform, rewards, lengths=None, axis_type=AxisType.Auto):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(axis_type,), devices=jax.devices()[:devices]
    )
    by_prompt = jax.NamedSharding(mesh, jax.P("data"))
    everywhere = jax.NamedSharding(mesh, jax.P())
    rewards = jax.device_put(rewards, by_prompt)
    lengths = None if lengths is None else jax.device_put(lengths, by_prompt)
    state = jax.device_put(transform.init(NAMES), everywhere)
    compute = jax.jit(
        values_of, static_argnums=0, out_shardings=by_prompt, compiler_options=FAST_COMPILE
    )
    compiled = compute.lower(transform, rewards, state, lengths).compile()
    return np.asarray(compiled(rewards, state, lengths)), compiled.as_text()


def collectives(hlo):
    names = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    return {name: len(re.findall(rf" {name}(?:-start)?\(", hlo)) for name in names}


CASES = {
    "gdpo": (GDPO, (), False, 2),
    "gdpo per rank": (GDPO, (3,), False, 2),
    "gdpo over tokens": (BY_TOKEN, (), True, 2),
    "gdpo per rank over tokens": (BY_TOKEN, (3,), True, 2),
    "grpo": (GRPO, (), False, 0),
    "grpo batch": (GRPO_BATCH, (), False, 2),
    "rank grpo": (GRPO, (3,), False, 0),
}


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("name", CASES)
def test_collectives_over_eight_devices(name, axis_type):
    transform, ranks, by_token, reductions = CASES[name]
    rewards, lengths = make_rewards(ranks), LENGTHS if by_token else None
    if by_token and ranks:
        lengths = np.repeat(LENGTHS[:, :, None], ranks[0], axis=2)
    eight, hlo = compiled_on(8, transform, rewards, lengths, axis_type=axis_type)
    found = collectives(hlo)
    assert found.pop("all-reduce") == reductions
    assert not any(found.values()), found
    one = VALUES(transform, rewards, transform.init(NAMES), lengths)
    np.testing.assert_allclose(eight, one, atol=2e-6)


@pytest.mark.parametrize("name", ["gdpo", "gdpo over tokens"])
def test_two_devices_agree_with_eight(name):
    transform, ranks, by_token, _ = CASES[name]
    rewards, lengths = make_rewards(ranks), LENGTHS if by_token else None
    eight, _ = compiled_on(8, transform, rewards, lengths)
    two, _ = compiled_on(2, transform, rewards, lengths)
    np.testing.assert_allclose(two, eight, atol=2e-6)


OTHERS = {
    "nemo": gdpo(convention="nemo"),
    "ms_swift": gdpo(convention="ms_swift"),
    "rloo": rloo(),
    "reinforce_pp": reinforce_pp(),
    "papo": papo("a", "b", at_least=0.0),
    "gd2po": gd2po(mode="snr"),
    "sa_mrpo": sa_mrpo(dict.fromkeys((*NAMES, "length"), (-2.0, 2.0))),
    "saw": saw(),
    "dvao": dvao(),
    "corr_grpo": corr_grpo(),
    "constrained": constrained_grpo({"c": 0.2}, step_size=0.1),
}


def _others(rewards, lengths):
    """With a further reward and a filter, as a training step would have them."""
    rewards = append_reward(rewards, "length", -lengths)
    rewards = mask_samples(rewards, any_reward_varies(rewards))
    return {
        name: compute_advantages(t, rewards, t.init(rewards.names))[0].values
        for name, t in OTHERS.items()
    }


OTHERS_COMPILED = jax.jit(_others, compiler_options=FAST_COMPILE)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_every_estimator_runs_on_a_mesh(axis_type):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    by_prompt = jax.NamedSharding(mesh, jax.P("data"))
    alone = OTHERS_COMPILED(make_rewards(), LENGTHS)
    together = OTHERS_COMPILED(*jax.device_put((make_rewards(), LENGTHS), by_prompt))
    for name, x in alone.items():
        np.testing.assert_allclose(together[name], x, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_metrics_are_those_of_the_whole_batch(axis_type):
    rewards, state = make_rewards(), GDPO.init(NAMES)
    _, _, alone = COMPUTE(GDPO, rewards, state)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    sharded = jax.device_put(rewards, jax.NamedSharding(mesh, jax.P("data")))
    _, _, together = COMPUTE(GDPO, sharded, jax.device_put(state, jax.NamedSharding(mesh, jax.P())))
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        np.testing.assert_allclose(together[name], value, atol=2e-6, err_msg=name)
