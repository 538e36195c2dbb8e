"""Cosines, silhouette and the probe by hand."""

import numpy as np
import pytest

from experiments.dcr.separation import separation
from gdpo_jax.errors import UserError

KINDS = ["seeming", "seeming", "toxic", "toxic"]


def test_two_directions_are_told_apart_fully():
    states = np.array([[1.0, 0], [3, 0], [0, 2], [0, 1]])
    found = separation(states, KINDS, folds=2, seed=1, clusters=[0, 1, 0, 1])
    assert found.similarity == {"seeming/seeming": 1.0, "seeming/toxic": 0.0, "toxic/toxic": 1.0}
    assert found.silhouette == 1.0
    assert found.auc == 1.0


def test_the_silhouette_by_hand():
    # Angles 0, 60, 90 and 150 degrees: cosines 1/2 inside, and 0, -0.866, 0.866, 0 across.
    angles = np.deg2rad([0, 60, 90, 150])
    found = separation(
        np.stack([np.cos(angles), np.sin(angles)], 1), KINDS, folds=2, clusters=[0, 1, 0, 1]
    )
    np.testing.assert_allclose(found.similarity["seeming/toxic"], 0, atol=1e-12)
    np.testing.assert_allclose(found.similarity["toxic/toxic"], 0.5)
    across = 1 - np.array([-0.8660254, 0.8660254, 0.8660254, -0.8660254]) / 2
    expected = np.mean((across - 0.5) / np.maximum(across, 0.5))
    np.testing.assert_allclose(found.silhouette, expected, rtol=1e-6)


def test_noise_is_not_told_apart_and_a_third_kind_is_measured_too():
    draw = np.random.default_rng(0)
    states = draw.normal(size=(120, 5))
    found = separation(states, ["plain", "seeming", "toxic"] * 40)
    assert set(found.similarity) >= {"plain/plain", "plain/seeming", "plain/toxic"}
    assert 0.3 < found.auc < 0.7
    assert abs(found.silhouette) < 0.1


def test_prompts_of_a_cluster_are_on_one_side_of_the_split():
    """Three copies of states at random: a probe knows the held-out ones by their copies alone."""
    draw = np.random.default_rng(0)
    states = np.repeat(draw.normal(size=(24, 30)), 3, axis=0)
    kinds = ["seeming"] * 36 + ["toxic"] * 36
    apart = separation(states, kinds, clusters=np.repeat(np.arange(24), 3), folds=4)
    copied = separation(states, kinds, folds=4)
    assert copied.auc > 0.75
    assert apart.auc < 0.6


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["toxic"] * 4, "two kinds with two states"),
        (["seeming", "toxic", "toxic", "toxic"], "two kinds with two states"),
        (["plain", "plain", "toxic", "toxic"], "no prompt is of kind 'seeming'"),
        (KINDS[:3], "two kinds with two states"),
    ],
)
def test_what_cannot_be_measured_is_named(kinds, message):
    with pytest.raises(UserError, match=message):
        separation(np.eye(4), kinds)


def test_too_few_clusters_are_named():
    with pytest.raises(UserError, match="1 clusters are too few"):
        separation(np.eye(4), KINDS, clusters=[0, 0, 0, 0])
