"""Sampler and trainer apart: the worked numbers, bounds, numbers that are not finite, metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import (
    count_denominators,
    mismatch_metrics,
    mismatch_weights,
    stale_sequence_weights,
)

OLD = jnp.array([[-1.2, -1.7, -0.5, -2.0]])
SAMPLED = jnp.array([[-1.0, -1.9, -0.5, -2.4]])
MASK = jnp.ones((1, 4), bool)
RAW = [0.818731, 1.221403, 1.0, 1.491825]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, RAW),
        ({"highest": 1.3}, [0.818731, 1.221403, 1.0, 1.3]),
        ({"mode": "mask", "lowest": 0.9, "highest": 1.3}, [0, 1.221403, 1.0, 0]),
        ({"level": "sequence"}, [1.491825] * 4),
        ({"level": "sequence", "highest": 1.4}, [1.4] * 4),
        ({"level": "sequence", "mode": "mask", "highest": 1.4}, [0] * 4),
        ({"level": "sequence", "mode": "mask", "highest": 3.0}, [1.491825] * 4),
        ({"level": "geometric", "mode": "mask", "highest": 1.11}, RAW),
        ({"level": "geometric", "mode": "mask", "highest": 1.10}, [0] * 4),
    ],
)
def test_weights(options, expected):
    found = mismatch_weights(OLD, SAMPLED, MASK, **options)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_numbers_that_are_not_finite_have_no_weight_and_enter_no_sum():
    sampled = SAMPLED.at[0, 0].set(-jnp.inf).at[0, 1].set(jnp.nan)
    mask = MASK.at[0, 2].set(False)
    found = mismatch_weights(OLD, sampled, mask, level="sequence")
    np.testing.assert_allclose(found[0], [0, 0, 0, 1.491825], atol=1e-6)
    outside = jnp.zeros((1, 4), bool).at[0, 3].set(True)
    metrics = mismatch_metrics(
        OLD, sampled, mask, count_denominators(mask), weights=found, outside=outside
    )
    p, q = np.exp(-2.0), np.exp(-2.4)
    middle = (p + q) / 2

    def k3(a, b):
        return a / b - np.log(a / b) - 1

    expected = {
        "rollout/abs_mean": 0.4 / 3,
        "rollout/abs_max": 0.4,
        "rollout/error": (2 + np.exp(0.4)) / 3,
        "rollout/kl": (np.exp(0.4) - 1.4) / 3,
        "rollout/kl_reverse": (np.exp(-0.4) - 0.6) / 3,
        "rollout/js": (k3(p, middle) + k3(q, middle)) / 2 / 3,
        "rollout/outside_mean": 1 / 3,
        "rollout/nonfinite_mean": 2 / 3,
        "rollout/weight_mean": 1.491825 / 3,
        "rollout/weight_square_mean": 1.491825**2 / 3,
        "rollout/weight_min": 0,
        "rollout/weight_max": 1.491825,
        "rollout/dropped_mean": 2 / 3,
    }
    assert metrics.as_dict().keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, atol=1e-6, err_msg=name)


def test_without_weights_only_the_distance_is_reported():
    found = mismatch_metrics(OLD, SAMPLED, MASK, count_denominators(MASK))
    found = found.as_dict()
    assert "rollout/abs_mean" in found
    assert not any("weight" in name or "outside" in name for name in found)


def test_weights_carry_no_gradient():
    gradient = jax.grad(lambda x: jnp.sum(mismatch_weights(x, SAMPLED, MASK)))(OLD)
    np.testing.assert_array_equal(gradient, np.zeros((1, 4)))


def test_stale_sequences_are_dropped_for_negative_advantages_alone():
    policy = jnp.array([[-2.0, -2.0], [-2.0, -2.0], [-1.1, -1.1]])
    sampled, mask = jnp.full((3, 2), -1.0), jnp.ones((3, 2), bool)
    advantages = jnp.array([[-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
    found = stale_sequence_weights(policy, sampled, advantages, mask, highest=0.5)
    np.testing.assert_array_equal(found, [[0, 0], [1, 1], [1, 1]])


@pytest.mark.parametrize(
    "options",
    [
        {"level": "word"},
        {"mode": "drop"},
        {"lowest": 2.0, "highest": 1.0},
        {"level": "geometric", "mode": "truncate"},
        {"mode": "truncate", "lowest": 0.5},
    ],
)
def test_wrong_options(options):
    with pytest.raises((UserError, TypeError), match=r"geometric|bounds|does nothing"):
        mismatch_weights(OLD, SAMPLED, MASK, **options)
