"""Epsilon of user-level clipping with noise, against published numbers."""

import sys

import pytest

from experiments.persona_leakage.learning.accounting import Guarantee, guarantee
from gdpo_jax.errors import UserError

SAME = {"noise": 0.7, "rate": 0.01, "steps": 120, "delta": 1e-5}


def test_published_epsilons():
    """Expected values of the tests of TensorFlow Privacy's statement about DP-SGD with PLD
    accounting (tensorflow/privacy, privacy/analysis/compute_dp_sgd_privacy_test.py): 1.2 epochs at
    rate 0.01 and noise 0.7; and 5 epochs of 10,000 examples, 64 a step, which are 782 steps, where
    micro-batches turn a noise of 2 into one of 1.
    """
    pytest.importorskip("dp_accounting")
    short = guarantee(**SAME)
    assert short.epsilon == pytest.approx(2.4612381, rel=1e-4)
    long = guarantee(noise=1.0, rate=64 / 10_000, steps=782, delta=1e-6)
    assert long.epsilon == pytest.approx(1.199, abs=5e-4)
    # More noise and fewer steps promise more.
    for better in ({"noise": 1.0}, {"steps": 60}):
        assert guarantee(**SAME | better).epsilon < short.epsilon
    assert str(Guarantee(2.4612, 1e-5)) == "epsilon 2.46 at delta 1e-05, for each user"


def test_one_step_for_everybody_is_the_gaussian_mechanism():
    """Balle and Wang (arXiv 1805.06530), theorem 8: delta of epsilon 1 at noise 1 is 0.12693674."""
    pytest.importorskip("dp_accounting")
    found = guarantee(noise=1.0, rate=1.0, steps=1, delta=0.12693674)
    assert found.epsilon == pytest.approx(1.0, abs=1e-3)


def test_without_noise_or_without_the_package_there_is_no_epsilon(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    assert guarantee(**SAME | {"noise": 0.0}) is None
    with pytest.raises(UserError, match=r"pip install 'gdpo-jax\[privacy\]'"):
        guarantee(**SAME)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": -1.0}, "noise must be finite and not negative"),
        ({"rate": 0.0}, "rate must be above 0 and at most 1"),
        ({"rate": 1.5}, "rate must be above 0 and at most 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"delta": 1.0}, "delta must be between 0 and 1"),
    ],
)
def test_numbers_out_of_range_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        guarantee(**SAME | changes)
