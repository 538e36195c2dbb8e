"""Estimators by name, and one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.reward_design.estimators import as_cost, estimator_named, estimators_named
from experiments.reward_design.learning import Training, train
from experiments.reward_design.tasks import Reward, Task
from gdpo_jax.advantages import (
    ESTIMATORS,
    RewardBatch,
    chain,
    combine,
    compute_advantages,
    corpo,
    papo,
    sa_mrpo,
    weigh,
)
from gdpo_jax.errors import UserError

TASK = Task(rewards=(Reward(name="a", scale=2.0), Reward(name="b", graded=True)))
OWN = """
import gdpo_jax.advantages as adv

def mine(weights=None):
    return adv.mo_grpo(weights)

fixed = adv.grpo([1.0, 0.0])

def none(weights):
    return weights

def two(weights, more):
    return adv.gdpo()

number = 3
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def advantages(make, values, weights):
    @jax.jit
    def compute(values, weights):
        transform = make(TASK, weights)
        rewards = RewardBatch(values=values, valid=jnp.ones(values.shape, bool), names=TASK.names)
        return compute_advantages(transform, rewards, transform.init(TASK.names))[0].values

    return np.asarray(compute(jnp.float32(values), jnp.float32(weights)))


def named(name, values, weights):
    return advantages(estimator_named(name).make, values, weights)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_trains_by_its_name(name):
    make = estimator_named(name).make

    # Traced only: weights are traced, and the state must keep its type through the scan.
    def run(weights, key):
        return train(TASK, Training(steps=2, num_samples=4), make, weights, key)

    shapes = jax.eval_shape(run, jnp.ones(2, jnp.float32), jax.random.key(0))
    assert shapes.rewards.shape == (3, 2)


def test_what_an_estimator_wants_to_know_comes_from_the_task():
    values, weights = np.random.default_rng(0).random((3, 4, 2)) * [2.0, 1.0], [1.0, 0.5]
    explicit = {
        "papo": papo("a", "b", weights, at_least=1.0),
        "sa_mrpo": sa_mrpo({"a": (0.0, 2.0), "b": (0.0, 1.0)}, weights),
        "corpo": corpo(1.25, weights),
    }
    for name, transform in explicit.items():
        expected = advantages(lambda task, w, transform=transform: transform, values, weights)
        np.testing.assert_allclose(named(name, values, weights), expected, atol=1e-6)
        assert np.ptp(expected) > 0.1


def test_the_constraint_is_the_last_reward_as_a_cost():
    flipped = chain(as_cost("b"), weigh(), combine())
    found = advantages(lambda task, weights: flipped, [[[1.0, 2.0], [3.0, 5.0]]], [1.0, 1.0])
    np.testing.assert_allclose(found, [[-1.0, -2.0]])


def test_one_s_own_from_a_file_and_from_a_module(own, monkeypatch):
    values = np.random.default_rng(1).random((3, 4, 2))
    expected = named("mo_grpo", values, [1.0, 0.5])
    np.testing.assert_array_equal(named(f"{own}:mine", values, [1.0, 0.5]), expected)
    monkeypatch.syspath_prepend(str(own.parent))
    np.testing.assert_array_equal(named("own:mine", values, [1.0, 0.5]), expected)
    # A transform as it stands keeps its own weights.
    first_alone = named("grpo", values, [1.0, 0.0])
    np.testing.assert_array_equal(named(f"{own}:fixed", values, [9.0, 9.0]), first_alone)
    assert estimator_named(f"{own}:mine").label == "mine"


def test_labels_differ(own):
    twin = own.with_name("twin.py")
    twin.write_text(OWN)
    names = ("gdpo", f"{own}:mine", f"{twin}:mine", f"{own}:fixed")
    labels = [one.label for one in estimators_named(names)]
    assert labels == ["gdpo", f"{own}:mine", f"{twin}:mine", "fixed"]


def test_mistakes_are_one_error(own):
    with pytest.raises(UserError, match=r"unknown estimator 'gpdo'; legal: gdpo, grpo, .*corpo, "):
        estimator_named("gpdo")
    with pytest.raises(UserError, match="give at least one, each once"):
        estimators_named(["gdpo", "gdpo"])
    with pytest.raises(UserError, match=r"there is no file absent\.py"):
        estimator_named("absent.py:mine")
    with pytest.raises(UserError, match="No module named 'absent_module'"):
        estimator_named("absent_module:mine")
    with pytest.raises(UserError, match="give module:function"):
        estimator_named(":mine")
    with pytest.raises(UserError, match=r"own.py has no 'yours'; it has .*'mine'"):
        estimator_named(f"{own}:yours")
    for attribute in ("number", "two"):
        with pytest.raises(UserError, match="a function of one argument"):
            estimator_named(f"{own}:{attribute}")
    with pytest.raises(UserError, match="it must return an AdvantageTransform"):
        estimator_named(f"{own}:none").make(TASK, jnp.ones(2))
