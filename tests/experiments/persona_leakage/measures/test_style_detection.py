"""Who an answer's style is taken for, on two manners of writing."""

import numpy as np
import pytest

from experiments.persona_leakage.measures.style_detection import (
    StyleProfiles,
    style_detector,
    style_profiles,
)
from gdpo_jax.errors import UserError


def table_of(scores):
    """Profiles of two users whose scores of an answer stand in a table."""
    return StyleProfiles(
        users=("a", "b"),
        score=lambda answers: np.array([scores[text] for text in answers]).reshape(-1, 2).T,
    )


def test_each_user_has_a_threshold_of_his_own():
    practice = {f"p{n}": (n / 10, -n / 10) for n in range(5)}
    profiles = table_of({**practice, "x": (0.45, 0.45), "y": (0.35, -0.25)})
    detect = style_detector(profiles, ["b", "a"], list(practice), rate=0.2)
    # One of five may be taken for a user: thresholds are 0 of b and 0.4 of a.
    assert detect(["x", "y"]).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert detect(list(practice)).mean(axis=1).tolist() == [0.2, 0.2]
    strict = style_detector(profiles, ["a"], list(practice), rate=0.0)
    assert strict([*practice, "x"]).tolist() == [[0.0] * 5 + [1.0]]
    with pytest.raises(UserError, match="'c' has no style profile"):
        style_detector(profiles, ["c"], list(practice))
    with pytest.raises(UserError, match="no scores to choose a threshold"):
        style_detector(profiles, ["a"], [])


def test_manners_are_told_without_the_same_words():
    pytest.importorskip("sklearn", reason="no scikit-learn; install the extra fingerprint")
    things = ("bus", "soup", "map", "coat", "lamp", "boat")
    calm = [f"take the {thing}." for thing in things]
    wanted = {
        "loud": [f"OMG!!! take the {thing} NOW!!!" for thing in things[:3]],
        "shy": [f"maybe... take the {thing}... sorry..." for thing in things[:3]],
    }
    profiles = style_profiles(wanted, calm[:3])
    detect = style_detector(profiles, ["loud", "shy"], calm[:3], rate=0.0)
    assert detect(["OMG!! a boat NOW!", "sorry... maybe a boat", calm[1]]).tolist() == [
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
    ]
    with pytest.raises(UserError, match="at least two users"):
        style_profiles({"loud": ["a b"]}, calm)
    with pytest.raises(UserError, match="'shy' has no answers"):
        style_profiles({**wanted, "shy": []}, calm)
