"""Personalisation strength: divergences by hand, means over users, recall over chance, files."""

import json
import math

import numpy as np
import pytest

from experiments.persona_leakage.measures.strength import (
    Strength,
    divergences,
    read_strengths,
    recall_strengths,
    user_strengths,
    write_strengths,
)
from gdpo_jax.errors import UserError


def test_divergences_by_hand():
    # KL of (1/2, 1/2) from (1/4, 3/4) is log 2 - log(3) / 2.
    first = np.log(np.full((1, 2, 2), 0.5))
    second = np.log(np.array([[[0.25, 0.75], [0.5, 0.5]]]))
    exact = np.log(2.0) - np.log(3.0) / 2
    assert divergences(first, second) == pytest.approx(np.array([[exact, 0.0]]))
    assert divergences(first, first).tolist() == [[0.0, 0.0]]


def test_what_has_no_probability_adds_nothing():
    with np.errstate(divide="ignore"):
        first = np.log(np.array([[1.0, 0.0], [0.5, 0.5]]))
    second = np.log(np.full((2, 2), 0.5))
    assert divergences(first, second) == pytest.approx([np.log(2.0), 0.0])
    assert divergences(second, first)[0] == np.inf


def test_means_over_tokens_then_probes():
    # What is not in the mask does not count, and a short answer weighs as much as a long one.
    found = np.array([[4.0, 9.0], [1.0, 3.0], [5.0, 5.0]])
    mask = np.array([[True, False], [True, True], [False, False]])
    strengths = user_strengths(found, mask, ["ann", "ann", "bob"])
    assert strengths["ann"] == 3.0 and math.isnan(strengths["bob"])
    with pytest.raises(UserError, match="a user for each probe"):
        user_strengths(found, mask, ["ann", "ann"])


def test_recall_over_chance():
    full = np.array([[1, 1, 0, np.nan], [0, 0, 1, 1]])
    without = np.array([[0, 1, 0, np.nan], [0, 1, 0, 0]])
    assert recall_strengths(full, without) == pytest.approx([1 / 3, 1 / 4])
    with pytest.raises(UserError, match="zeros and ones"):
        recall_strengths(full * 0.5, without)


def test_shapes_and_unnormalised_log_probs_are_refused():
    values = np.zeros((1, 2, 2))
    with pytest.raises(UserError, match="do not sum to one"):
        divergences(values, values)
    with pytest.raises(UserError, match="the same tokens of the same vocabulary"):
        divergences(values, values[:, :1])


def test_files(tmp_path):
    path = tmp_path / "strengths.jsonl"
    found = [Strength(user="a", strength=0.5, leakage=0.25), Strength(user="b", strength=-0.1)]
    write_strengths(path, [*found, Strength(user="c", strength=math.nan, leakage=0.5)])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [
        {"user": "a", "strength": 0.5, "leakage": 0.25},
        {"user": "b", "strength": -0.1},
    ]
    first, second = read_strengths(path)
    assert first == found[0] and second.user == "b" and math.isnan(second.leakage)
    for row, problem in [
        ({"user": "a", "strength": 0}, "'a' stands twice"),
        ({"user": 3, "strength": 0}, "row 3, field 'user'"),
        ({"user": "c", "strength": True}, "row 3, field 'strength'"),
        ({"user": "c", "strength": 1, "gamma": 1}, "unknown field 'gamma'"),
    ]:
        path.write_text("".join(json.dumps(one) + "\n" for one in (*rows, row)))
        with pytest.raises(UserError, match=problem):
            read_strengths(path)
