"""The worked numbers of ratios, surrogates, KL and aggregation, to 1e-6."""

import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.objectives import (
    aggregate,
    cispo_surrogate,
    clipped_surrogate,
    count_denominators,
    kl_estimate,
    log_importance,
    sapo_surrogate,
    spread_to_tokens,
)

LOG_PROBS = jnp.array([[-1, -2, -0.5, -1.5]], jnp.float32)
OLD = jnp.array([[-1.2, -1.7, -0.5, -2]], jnp.float32)
REFERENCE = jnp.array([[-1.1, -1.9, -0.9, -1]], jnp.float32)
ITEMS = jnp.array([[0, 0, 1, 1]])
MASK = jnp.ones((1, 4), bool)
ONE = jnp.ones((1, 4), jnp.float32)


def close(actual, expected, tolerance=1e-6):
    expected = [float(x) for x in expected.split()] if isinstance(expected, str) else expected
    np.testing.assert_allclose(np.ravel(actual), np.ravel(expected), rtol=0, atol=tolerance)


def log_weight(level):
    return log_importance(LOG_PROBS, OLD, MASK, level=level, segment_ids=ITEMS)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("token", "1.221403 0.740818 1 1.648721"),
        ("segment", "0.951229 0.951229 1.284025 1.284025"),
        ("sequence", "1.105171 1.105171 1.105171 1.105171"),
        ("sequence_token", "1.105171 1.105171 1.105171 1.105171"),
    ],
)
def test_ratios(level, expected):
    close(jnp.exp(log_weight(level)), expected)


@pytest.mark.parametrize(
    ("level", "sign", "options", "expected"),
    [
        ("token", 1, {}, "-1.2 -0.740818 -1 -1.2"),
        ("segment", 1, {}, "-0.951229 -0.951229 -1.2 -1.2"),
        ("token", -1, {}, "1.221403 0.8 1 1.648721"),
        ("segment", -1, {}, "0.951229 0.951229 1.284025 1.284025"),
        ("token", -1, {"dual_clip": 1.5}, "1.221403 0.8 1 1.5"),
        ("token", -1, {"delta": 1.3}, "1.221403 0.8 1 1.3"),
        ("token", 1, {"dual_clip": 1.5, "delta": 1.3}, "-1.2 -0.740818 -1 -1.2"),
    ],
)
def test_clipped_surrogate(level, sign, options, expected):
    close(clipped_surrogate(log_weight(level), sign * ONE, **options), expected)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"highest": 1.2}, "1.2 1.481636 0.5 1.8"),
        ({"lowest": 0.8, "highest": 1.2}, "1.2 1.6 0.5 1.8"),
    ],
)
def test_cispo(bounds, expected):
    close(cispo_surrogate(log_weight("token"), LOG_PROBS, ONE, **bounds), expected)


@pytest.mark.parametrize(
    ("sign", "expected"),
    [
        (1, "-2.220503 -1.742259 -2 -2.626889"),
        (-1, "2.125173 1.647168 1.904762 2.529512"),
    ],
)
def test_sapo(sign, expected):
    close(sapo_surrogate(log_weight("token"), sign * ONE), expected)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        ("k1", "0.1 -0.1 0.4 -0.5"),
        ("k2", "0.005 0.005 0.08 0.125"),
        ("k3", "0.004837 0.005171 0.070320 0.148721"),
        ("k3+", "0.004837 0.005171 0.070320 0.148721"),
        ("abs", "0.1 0.1 0.4 0.5"),
    ],
)
def test_kl(estimator, expected):
    close(kl_estimate(LOG_PROBS, REFERENCE, estimator=estimator), expected)


def test_kl_clamps():
    far = jnp.asarray([-50.0, 50.0])
    close(kl_estimate(jnp.zeros(2), far, estimator="k1"), [20.0, -20.0])
    close(kl_estimate(jnp.zeros(2), far, estimator="k3", cap=10.0), [10.0, 10.0])


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("dapo", -1.875),
        ("bnpo", -1.875),
        ("grpo", -2.25),
        ("sequence_sum", -3.75),
        ("dr_grpo", -1.25),
        ("token_sum", -7.5),
    ],
)
def test_aggregation(aggregation, expected):
    losses = jnp.array([[-1.5, -1.5, -1.5], [-3, np.nan, np.nan], [np.nan] * 3], jnp.float32)
    mask = jnp.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
    counts = count_denominators(mask)
    found = aggregate(losses, mask, counts, aggregation=aggregation, max_length=3)
    close(found, expected)


def test_item_mean_weighs_every_item_equally():
    losses = jnp.array([[-1.0, -1.0, -1.0, -5.0, 9.0]], jnp.float32)
    items, mask = jnp.array([[0, 0, 0, 1, -1]]), jnp.ones((1, 5), bool)
    counts = count_denominators(mask, items)
    assert float(counts.items) == 2
    close(aggregate(losses, mask, counts, aggregation="item_mean", segment_ids=items), -3.0)


def test_denominators_leave_out_empty_sequences():
    mask = jnp.asarray([[1, 1, 0], [0, 0, 0], [1, 0, 0]], bool)
    counts = count_denominators(mask, jnp.asarray([[0, 1, 2], [0, 0, 0], [-1, 0, 0]]))
    assert (float(counts.tokens), float(counts.sequences), float(counts.items)) == (3, 2, 2)
    empty = count_denominators(jnp.zeros((2, 3), bool))
    assert (float(empty.tokens), float(empty.sequences), float(empty.items)) == (1, 1, 1)


def test_spread_to_tokens():
    mask = jnp.asarray([[[1, 1, 0], [1, 1, 1]]], bool)
    whole = spread_to_tokens(jnp.asarray([[0.5, -1.0]]), None, mask)
    close(whole, [0.5, 0.5, 0, -1, -1, -1])
    ids = jnp.asarray([[[0, 1, 1], [-1, 1, 2]]])
    items = spread_to_tokens(jnp.asarray([[[1.0, 2.0], [3.0, 4.0]]]), ids, mask)
    close(items, [1, 2, 0, 0, 4, 0])
