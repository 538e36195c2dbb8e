"""Personalisation strength: exact and estimated divergences, and recall over chance."""

import numpy as np
import pytest

from experiments.persona_leakage.measures.strength import (
    kl_per_token,
    recall_strength,
    sampled_kl_per_token,
)
from gdpo_jax.errors import UserError


def test_by_hand():
    # KL of (1/2, 1/2) from (1/4, 3/4) is log 2 - log(3) / 2.
    first = np.log(np.full((1, 1, 2, 2), 0.5))
    second = np.log(np.array([[[[0.25, 0.75], [0.5, 0.5]]]]))
    exact = np.log(2.0) - np.log(3.0) / 2
    both = np.ones((1, 1, 2), bool)
    assert kl_per_token(first, second, both) == pytest.approx([exact / 2])
    assert kl_per_token(first, second, np.array([[[True, False]]])) == pytest.approx([exact])
    assert kl_per_token(first, first, both).tolist() == [0.0]


def test_what_has_no_probability_adds_nothing():
    with np.errstate(divide="ignore"):
        first, second = np.log(np.array([[[[1.0, 0.0]]], [[[0.5, 0.5]]]])), np.log(0.5)
    second = np.full_like(first, second)
    mask = np.ones((2, 1, 1), bool)
    assert kl_per_token(first, second, mask) == pytest.approx([np.log(2.0), 0.0])
    assert kl_per_token(second, first, mask)[0] == np.inf


def test_estimates_come_near_the_divergence():
    rng = np.random.default_rng(0)
    first, second = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.2, 0.6])
    drawn = rng.choice(3, p=first, size=(1, 400, 10))
    mask = np.ones((1, 400, 10), bool)
    found = sampled_kl_per_token(np.log(first)[drawn], np.log(second)[drawn], mask)
    exact = (first * np.log(first / second)).sum()
    assert found == pytest.approx([exact], abs=0.05)
    # What is not in the mask does not count, probes weigh alike, and nothing asked is NaN.
    first = np.array([[[4.0, 9.0], [1.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]])
    kept = np.array([[[True, False], [True, True]], [[False, False], [False, False]]])
    found = sampled_kl_per_token(first, np.zeros_like(first), kept)
    assert found[0] == 3.0 and np.isnan(found[1])
    assert recall_strength(np.array([0.9]), np.array([0.1])) == pytest.approx([0.8])


def test_shapes_and_unnormalised_log_probs_are_refused():
    values, mask = np.zeros((1, 1, 2, 2)), np.ones((1, 1, 2), bool)
    with pytest.raises(UserError, match="do not sum to one"):
        kl_per_token(values, values, mask)
    with pytest.raises(UserError, match="user, probe, token, vocabulary"):
        kl_per_token(values, values, mask[:, :, :1])
    with pytest.raises(UserError, match="three times"):
        sampled_kl_per_token(values[..., 0], values[..., 0], mask[:, :, :1])
