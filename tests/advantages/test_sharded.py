"""Sharded over prompts: the same numbers on 1, 2 and 8 devices, and the collectives they cost."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from gdpo_jax.advantages import compute_advantages, gdpo, grpo, reward_batch

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
    "grpo": (GRPO, (), False, 0),
    "grpo batch": (GRPO_BATCH, (), False, 2),
}


@pytest.mark.parametrize("name", CASES)
def test_collectives_over_eight_devices(name):
    transform, ranks, by_token, reductions = CASES[name]
    rewards, lengths = make_rewards(ranks), LENGTHS if by_token else None
    eight, hlo = compiled_on(8, transform, rewards, lengths)
    found = collectives(hlo)
    assert found.pop("all-reduce") == reductions
    assert not any(found.values()), found
    one = VALUES(transform, rewards, transform.init(NAMES), lengths)
    np.testing.assert_allclose(eight, one, atol=2e-6)


def test_two_devices_and_an_explicit_mesh_agree_with_eight():
    rewards = make_rewards()
    eight, _ = compiled_on(8, GDPO, rewards)
    two, _ = compiled_on(2, GDPO, rewards)
    explicit, hlo = compiled_on(8, GDPO, rewards, axis_type=AxisType.Explicit)
    np.testing.assert_allclose(two, eight, atol=2e-6)
    np.testing.assert_allclose(explicit, eight, atol=2e-6)
    assert collectives(hlo)["all-reduce"] == 2
    assert collectives(hlo)["all-gather"] == 0


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
