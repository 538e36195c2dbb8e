"""Style embeddings: distances, profiles, and what moves beyond two seeds."""

import numpy as np
import pytest

from experiments.persona_leakage.measures.detectors import at_least, threshold_at
from experiments.persona_leakage.measures.styles import (
    style_distances,
    style_embedding,
    style_scores,
    style_shift,
)
from gdpo_jax.errors import UserError


def test_distances_by_hand():
    first = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    second = np.array([[0.0, 2.0], [3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    assert style_distances(first, second).tolist() == [1.0, 0.0, 1.0, 0.0]
    assert style_distances(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]])) == pytest.approx([0.4])


def test_scores_are_against_the_other_profiles():
    profiles = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    found = style_scores(profiles, np.array([[1.0, 0.0], [0.0, 3.0], [0.0, 0.0]]))
    expected = [[1.0, -1.0, 0.0], [-0.5, 0.5, 0.0], [-0.5, 0.5, 0.0]]
    assert found == pytest.approx(np.array(expected))
    with pytest.raises(UserError, match="two profiles"):
        style_scores(profiles[:1], profiles)


def test_a_shift_beyond_two_seeds():
    without = np.tile(np.array([1.0, 0.0]), (3, 2, 1))
    full, other = without.copy(), without.copy()
    full[:, 0] = [0.0, 1.0]  # one of two answers of each user in another style
    other[0, 0] = [0.0, 1.0]
    found = style_shift(full, without, other, samples=50)
    assert found.shift.mean == 0.5 and (found.shift.low, found.shift.high) == (0.5, 0.5)
    assert found.seeds.mean == pytest.approx(1 / 6)
    assert found.excess.mean == pytest.approx(1 / 3)
    assert style_shift(full, full, full, samples=5).shift.mean == 0.0
    with pytest.raises(UserError, match="same probes"):
        style_shift(full, without[:, :1], other)


def test_texts_of_one_manner_are_nearer_to_each_other():
    pytest.importorskip("sklearn", reason="needs the extra fingerprint")
    loud = [f"OMG!!! take the {thing} right NOW!!!" for thing in ("bus", "soup", "map", "coat")]
    calm = [f"perhaps take the {thing}, if you like." for thing in ("bus", "soup", "map", "coat")]
    embed = style_embedding([*loud, *calm])
    vectors = embed([*loud, *calm])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(8))
    assert embed([]).shape == (0, vectors.shape[1])
    profiles = np.stack([vectors[:2].mean(axis=0), vectors[4:6].mean(axis=0)])
    scores = style_scores(profiles, vectors[[2, 3, 6, 7]])
    threshold = threshold_at(scores[0, 2:], 0.0)
    assert at_least(scores[0], threshold).tolist() == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(UserError, match="no two characters"):
        style_embedding(["", "a"])
