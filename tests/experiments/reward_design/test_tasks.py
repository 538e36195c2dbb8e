"""Invented tasks: what they earn, how their rewards hang together, and exact expectations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.reward_design.tasks import (
    Reward,
    Task,
    best_rewards,
    draw_tables,
    expected_rewards,
)
from gdpo_jax.errors import UserError

COIN, GRADE = Reward(name="coin", scale=3.0, sparsity=0.75), Reward(name="grade", graded=True)


def test_sparsity_scale_and_grades():
    tables = draw_tables(Task(rewards=(COIN, GRADE), prompts=3, completions=8), jax.random.key(0))
    coin, grade = np.moveaxis(np.asarray(tables.rewards), 2, 0)
    assert np.sort(coin, axis=1).tolist() == [[0, 0, 0, 0, 0, 0, 3, 3]] * 3
    assert np.sort(grade, axis=1).tolist() == [[0, 0, 0, 0, 0.25, 0.5, 0.75, 1]] * 3


def test_some_completion_earns_even_the_sparsest_reward():
    rare = Task(rewards=(Reward(name="rare", sparsity=0.99),), completions=4)
    tables = draw_tables(rare, jax.random.key(1))
    np.testing.assert_array_equal(np.asarray(tables.rewards).sum(axis=1), 1)


def test_a_key_is_a_task():
    task = Task(rewards=(COIN, GRADE))
    first, again, other = (draw_tables(task, jax.random.key(n)) for n in (4, 4, 5))
    np.testing.assert_array_equal(first.rewards, again.rewards)
    np.testing.assert_array_equal(first.features, again.features)
    assert (np.asarray(first.rewards) != np.asarray(other.rewards)).any()


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.6])
def test_rewards_hang_together_as_asked(correlation):
    pair = (Reward(name="a", graded=True, sparsity=0), Reward(name="b", graded=True, sparsity=0))
    task = Task(rewards=pair, prompts=64, completions=64, correlation=correlation)
    values = np.asarray(draw_tables(task, jax.random.key(2)).rewards).reshape(-1, 2)
    # Ranks of normal scores of correlation rho have correlation 6 / pi asin(rho / 2); the
    # standard error of 4096 pairs is 0.016.
    expected = 6 / np.pi * np.arcsin(correlation / 2)
    np.testing.assert_allclose(np.corrcoef(values.T)[0, 1], expected, atol=0.06)


def test_a_matrix_gives_each_pair_its_own_correlation():
    three = tuple(Reward(name=name, graded=True, sparsity=0) for name in "abc")
    matrix = ((1.0, 0.9, 0.0), (0.9, 1.0, 0.0), (0.0, 0.0, 1.0))
    task = Task(rewards=three, prompts=64, completions=64, correlation=matrix)
    values = np.asarray(draw_tables(task, jax.random.key(3)).rewards).reshape(-1, 3)
    found = np.corrcoef(values.T)
    assert found[0, 1] > 0.85
    np.testing.assert_allclose([found[0, 2], found[1, 2]], 0, atol=0.06)


def test_full_conflict_is_a_constant_sum():
    pair = (Reward(name="a"), Reward(name="b"))
    tables = draw_tables(Task(rewards=pair, prompts=50, correlation=-1.0), jax.random.key(6))
    np.testing.assert_array_equal(np.asarray(tables.rewards).sum(axis=2), 1)


def test_expected_rewards_against_brute_force():
    rng = np.random.default_rng(0)
    logits, rewards = rng.normal(size=(2, 3)), rng.normal(size=(2, 3, 2))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # Over all pairs of completions, one for each prompt.
    brute = np.zeros(2)
    for first, second in itertools.product(range(3), repeat=2):
        chance = probabilities[0, first] * probabilities[1, second]
        brute += chance * (rewards[0, first] + rewards[1, second]) / 2
    found = expected_rewards(jnp.float32(logits), jnp.float32(rewards))
    np.testing.assert_allclose(found, brute, atol=1e-6)


def test_best_rewards_against_brute_force():
    rng = np.random.default_rng(1)
    rewards, weights = rng.normal(size=(2, 3, 2)), np.array([0.3, 0.7])
    policies = [
        (rewards[0, first] + rewards[1, second]) / 2
        for first, second in itertools.product(range(3), repeat=2)
    ]
    best = max(policies, key=lambda earned: earned @ weights)
    found = best_rewards(jnp.float32(rewards), jnp.float32(weights))
    np.testing.assert_allclose(found, best, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reward(name="a", scale=0.0), "scale=0.0 must be positive"),
        (lambda: Reward(name="a", sparsity=1.0), r"sparsity=1.0 in \[0, 1\)"),
        (lambda: Reward(name="a", noise=-1.0), "noise=-1.0 at least 0"),
        (lambda: Task(rewards=()), "give at least one"),
        (lambda: Task(rewards=(COIN, COIN)), "each its own name"),
        (lambda: Task(rewards=(COIN,), completions=1), "at least 2"),
        (lambda: Task(rewards=(COIN, GRADE), correlation=-1.5), "from -1 to 1"),
        (
            lambda: Task(rewards=(COIN, GRADE, Reward(name="c")), correlation=-0.6),
            "no correlation matrix of 3 rewards; one number may run from -0.5 to 1",
        ),
        (lambda: Task(rewards=(COIN, GRADE), correlation=((1.0,),)), "no correlation matrix"),
    ],
)
def test_mistakes_are_one_error(make, message):
    with pytest.raises(UserError, match=message):
        make()
