"""Masks of tokens and completions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import (
    ObjectiveConfig,
    count_denominators,
    covariance_tokens,
    log_importance,
    mask_unfinished,
    mismatch_weights,
    policy_objective,
    pooled_mean,
    sequence_kl,
    stale_sequence_weights,
    token_weights,
    top_entropy_tokens,
)

MASK = jnp.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], bool)


def test_top_entropy_tokens():
    entropy = jnp.array([[0.1, 0.9, 0.3, 0.2, 99.0], [0.5, 0.8, 0.4, 0.0, 0.6]])
    found = top_entropy_tokens(entropy, MASK, fraction=0.3)  # three of nine
    np.testing.assert_array_equal(found, [[0, 1, 0, 0, 0], [0, 1, 0, 0, 1]])
    np.testing.assert_array_equal(top_entropy_tokens(entropy, MASK, fraction=1.0), MASK)
    one = top_entropy_tokens(entropy, MASK, fraction=1e-6)
    assert int(one.sum()) == 1
    assert not bool(top_entropy_tokens(entropy, jnp.zeros_like(MASK)).any())
    with pytest.raises(UserError, match="fraction=0"):
        top_entropy_tokens(entropy, MASK, fraction=0.0)


def test_covariance_tokens_are_those_of_numpy():
    rng = np.random.default_rng(1)
    log_probs = rng.normal(size=(2, 5)).astype(np.float32)
    advantages = rng.normal(size=(2, 5)).astype(np.float32)
    mask = np.asarray(MASK)
    covariance = (advantages - advantages[mask].mean()) * (log_probs - log_probs[mask].mean())
    expected = mask & (covariance >= np.sort(covariance[mask])[-3])
    dirty = jnp.where(MASK, log_probs, jnp.nan)
    found = covariance_tokens(dirty, jnp.asarray(advantages), MASK, fraction=0.3)
    np.testing.assert_array_equal(found, expected)


def test_kl_cov_holds_the_chosen_tokens_to_the_old_policy():
    log_probs, old = jnp.full((2, 5), -1.0), jnp.full((2, 5), -1.5)
    chosen = jnp.zeros((2, 5), bool).at[0, 1].set(True)
    inputs = {"log_probs": log_probs, "old_log_probs": old, "advantages": jnp.zeros((2, 5))}
    inputs |= {"mask": MASK, "denominators": count_denominators(MASK)}
    loss, _ = policy_objective(ObjectiveConfig(old_kl_coef=2.0), **inputs, old_kl_tokens=chosen)
    np.testing.assert_allclose(loss, 2.0 * 0.5 / 9, rtol=1e-6)
    with pytest.raises(UserError, match="does nothing without old_kl_tokens"):
        policy_objective(ObjectiveConfig(old_kl_coef=2.0), **inputs)
    with pytest.raises(UserError, match="old_kl_tokens do nothing with old_kl_coef=0"):
        policy_objective(ObjectiveConfig(), **inputs, old_kl_tokens=chosen)


def test_clip_cov_takes_the_chosen_tokens_out_of_the_surrogate():
    rng = np.random.default_rng(3)
    log_probs, advantages = (jnp.asarray(rng.normal(size=(2, 5)), jnp.float32) for _ in range(2))
    chosen = covariance_tokens(log_probs, advantages, MASK, fraction=0.3)
    config = ObjectiveConfig(surrogate="reinforce")
    inputs = {"old_log_probs": log_probs, "advantages": advantages, "mask": MASK}
    inputs["denominators"] = count_denominators(MASK)
    gradient = jax.grad(
        lambda x: policy_objective(config, log_probs=x, **inputs, policy_weights=~chosen)[0]
    )(log_probs)
    expected = np.where(MASK & ~chosen, -np.asarray(advantages) / 9, 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    assert int(chosen.sum()) == 3


def test_unfinished_completions_leave_the_loss():
    found = mask_unfinished(MASK, jnp.array([True, False]))
    np.testing.assert_array_equal(found, [[1, 1, 1, 1, 0], [0] * 5])


def test_completions_may_lie_in_groups():
    """What a batch of prompts and samples holds, `[B, G, C]`, gives the same as flat rows."""
    rng = np.random.default_rng(5)
    shape = (2, 3, 4)
    first, second, third = (jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(3))
    mask = jnp.asarray(rng.random(shape) < 0.8)
    ids = jnp.asarray(rng.integers(-1, 3, shape))

    # Compiled once for each form: one by one, the operations of both take three seconds.
    @jax.jit
    def all_of(a, b, c, m, i):
        weights = count_denominators(m, i)
        return {
            "entropy": top_entropy_tokens(a, m, fraction=0.3),
            "covariance": covariance_tokens(a, b, m, fraction=0.3),
            "stale": stale_sequence_weights(a, b, c, m),
            "mismatch": mismatch_weights(a, b, m, level="sequence"),
            "pooled": pooled_mean(a, m, i, max_segments=2),
            "importance": log_importance(a, b, m, level="segment", segment_ids=i, max_segments=2),
            "items": token_weights(m, weights, aggregation="item_mean", segment_ids=i),
        }

    arrays = (first, second, third, mask, ids)
    flat = all_of(*(x.reshape(6, 4) for x in arrays))
    for name, found in all_of(*arrays).items():
        assert found.shape == shape
        np.testing.assert_allclose(found.reshape(6, 4), flat[name], rtol=1e-6, err_msg=name)


def test_sequence_kl_sums_over_the_mask():
    log_probs = jnp.array([[-1.0, -2.0, -0.5, -1.5, jnp.nan]])
    reference = jnp.array([[-1.1, -1.9, -0.9, -1.0, 0.0]])
    found = sequence_kl(log_probs, reference, MASK[:1])
    np.testing.assert_allclose(found, [-0.1], atol=1e-6)
    for estimator, expected in [("abs", 1.1), ("k2", 0.215), ("k3", 0.229049)]:
        found = sequence_kl(log_probs, reference, MASK[:1], estimator=estimator)
        np.testing.assert_allclose(found, [expected], atol=1e-6)
