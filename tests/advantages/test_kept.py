"""Equal plain arguments give one transform; nothing else is mistaken for another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.advantages import ESTIMATORS, compute_advantages, gdpo, grpo, reward_batch
from gdpo_jax.training import advantage_step, make_mesh

NEEDED = {
    "papo": {"outcome": "a", "process": "b"},
    "sa_mrpo": {"bounds": {"a": (0.0, 1.0), "b": (0.0, 1.0)}},
    "constrained_grpo": {"thresholds": {"b": 0.1}, "step_size": 0.1, "weights": {"a": 0.8125}},
    "corpo": {"threshold": 0.5},
}


def test_equal_arguments_give_one_transform():
    assert gdpo({"a": 1.0, "b": 2.0}, convention="trl") is gdpo(
        {"a": 1.0, "b": 2.0}, convention="trl"
    )
    assert gdpo([1.0, 2.0]) is not gdpo([2.0, 1.0])
    assert gdpo(resolution=1) is not gdpo(resolution=True)
    assert grpo([1.0]) is not gdpo([1.0])


@pytest.mark.parametrize("weights", [np.ones(2), lambda step: [1.0, step], {"a": np.float32(1)}])
def test_arrays_and_schedules_make_a_transform_anew(weights):
    assert gdpo(weights) is not gdpo(weights)


def test_a_dict_changed_afterwards_changes_no_transform():
    weights = {"a": 1.0, "b": 2.0}
    before = gdpo(weights)
    weights["a"] = 5.0
    state = gdpo({"a": 1.0, "b": 2.0}).init(("a", "b"))
    assert before is gdpo({"a": 1.0, "b": 2.0})
    np.testing.assert_array_equal(jax.tree.leaves(state)[0], [1.0, 2.0])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_transform_made_while_tracing_is_good_in_another_trace(name):
    rewards = reward_batch([[[0.0, 1.0], [1.0, 0.0]]], ("a", "b"))
    # Weights that no other test gives, so that it is the first trace that makes the transform.
    options = {"weights": {"a": 0.8125, "b": 0.6875}, **NEEDED.get(name, {})}

    def advantages():
        transform = ESTIMATORS[name](**options)
        return compute_advantages(transform, rewards, transform.init(rewards.names))[0].values

    jax.eval_shape(advantages)
    # A new function, which is traced anew.
    assert jax.eval_shape(lambda: advantages()).shape == (1, 2)


def test_the_step_of_equal_estimators_is_traced_once():
    mesh = make_mesh()
    first, second = (advantage_step.make_advantage_step(gdpo([3.0]), mesh=mesh) for _ in range(2))
    assert first is second
    assert first is not advantage_step.make_advantage_step(gdpo(jnp.array([3.0])), mesh=mesh)
