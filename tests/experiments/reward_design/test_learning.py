"""The learner: against the exact gradient, deterministic, batched as looped, state carried."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.reward_design import learning
from experiments.reward_design.learning import Training, train, train_many
from experiments.reward_design.policies import policy_named
from experiments.reward_design.tasks import Reward, Task, draw_tables, expected_rewards
from gdpo_jax.advantages import constrained_grpo, dr_grpo, gdpo
from gdpo_jax.errors import UserError

TASK = Task(
    rewards=(Reward(name="a", graded=True, noise=0.2), Reward(name="b", sparsity=0.75, scale=2.0)),
    prompts=4,
    completions=6,
)
SHORT = Training(steps=5, num_samples=4)
ONES = jnp.ones(2, jnp.float32)
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def plain_gdpo(task, weights):
    return gdpo(weights)


@pytest.mark.parametrize("policy", ["table", "network"])
def test_a_step_follows_the_exact_gradient(policy):
    # Dr.GRPO is the policy gradient times (G - 1) / G: many samples give the exact one.
    task = dataclasses.replace(TASK, rewards=(Reward(name="a"), Reward(name="b", sparsity=0.75)))
    weights = jnp.array([1.0, 0.5], jnp.float32)
    training = Training(
        steps=1, num_samples=4000, optimizer="sgd", learning_rate=1e-2, policy=policy
    )
    key = jax.random.key(3)

    @quick_jit
    def run(weights, key):
        return train(task, training, lambda task, w: dr_grpo(w), weights, key)

    curves = run(weights, key)

    task_key, init_key, _ = jax.random.split(key, 3)
    tables, softmax = draw_tables(task, task_key), policy_named(policy)
    start = softmax.init(init_key, tables)

    def earned(params):
        return expected_rewards(softmax.logits(params, tables), tables.rewards)

    gradient = jax.grad(lambda params: jnp.sum(earned(params) * weights))(start)
    exact = earned(jax.tree.map(lambda p, g: p + 1e-2 * g, start, gradient))
    np.testing.assert_allclose(curves.rewards[0], earned(start), atol=1e-6)
    gained, expected = curves.rewards[1] - curves.rewards[0], exact - earned(start)
    np.testing.assert_allclose(gained @ weights, expected @ weights, rtol=0.1)
    size = max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(gradient))
    np.testing.assert_allclose(curves.moved, 1e-2 * size, rtol=0.1)


def test_seeds_and_weights_are_batch_axes(monkeypatch):
    monkeypatch.setattr(learning, "COMPILER_LEVEL", 0)
    weights = np.array([[1.0, 1.0], [1.0, 0.2]], np.float32)
    many = train_many(TASK, SHORT, plain_gdpo, weights, seeds=3)
    assert many.rewards.shape == (2, 3, 6, 2)
    assert many.moved.shape == (2, 3)
    assert many.metrics["entropy"].shape == (2, 3, 5)
    alone = quick_jit(lambda w, key: train(TASK, SHORT, plain_gdpo, w, key))
    for i, row in enumerate(weights):
        for seed in range(3):
            one = alone(jnp.asarray(row), jax.random.key(seed))
            np.testing.assert_allclose(many.rewards[i, seed], one.rewards, atol=1e-5)
            np.testing.assert_allclose(many.moved[i, seed], one.moved, rtol=1e-4)
    again = train_many(TASK, SHORT, plain_gdpo, weights, seeds=3)
    jax.tree.map(np.testing.assert_array_equal, many, again)
    # Every seed is another task, and weights matter.
    assert len({float(x) for x in many.rewards[0, :, -1, 0]}) == 3
    assert np.abs(many.rewards[0] - many.rewards[1]).max() > 1e-3


def test_loudness_is_the_scale_of_a_task():
    loud = dataclasses.replace(TASK, rewards=(TASK.rewards[0], Reward(name="b", scale=10.0)))
    quiet = loud.with_unit_scales()

    def ends(task, loudness):
        run = quick_jit(lambda key: train(task, SHORT, dr, ONES, key, loudness=loudness))
        return run(jax.random.key(0))

    def dr(task, weights):
        return dr_grpo(weights)

    found, expected = ends(quiet, jnp.array([1.0, 10.0], jnp.float32)), ends(loud, None)
    np.testing.assert_allclose(found.rewards, expected.rewards, rtol=1e-5)
    np.testing.assert_allclose(found.best, expected.best, rtol=1e-6)


def test_the_state_of_an_estimator_is_carried_from_step_to_step():
    # A cost of rate 0.5 over its threshold 0: the multiplier starts at 0 and grows every step.
    def make(task, weights):
        return constrained_grpo({"b": 0.0}, step_size=0.1, weights=weights[:1])

    training = Training(steps=4, num_samples=4, num_iterations=2)
    run = quick_jit(lambda key: train(TASK, training, make, ONES, key))
    metrics = run(jax.random.key(0)).metrics
    multiplier, rate = (np.asarray(metrics[f"constraint/b/{x}"]) for x in ("multiplier", "rate"))
    assert multiplier[0] == 0
    np.testing.assert_allclose(np.diff(multiplier), 0.1 * rate[:-1], rtol=1e-5)
    assert (rate > 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps=0 must be positive"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 must be positive"),
        ({"optimizer": "lion"}, r"legal values: \['adam', 'sgd'\]"),
        ({"policy": "tree"}, "unknown policy 'tree'; legal: table, network"),
    ],
)
def test_mistakes_are_one_error(changes, message):
    with pytest.raises(UserError, match=message):
        Training(**changes)
