"""Corpus, features, space, impostors, encoder and baseline on small cases."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.persona_leakage.fingerprint import encoder as encoders
from experiments.persona_leakage.fingerprint.baseline import fit_baseline, rescale, similarities
from experiments.persona_leakage.fingerprint.corpus import corpus_of, folds_of
from experiments.persona_leakage.fingerprint.encoder import EncoderOptions, encode, fit_encoder
from experiments.persona_leakage.fingerprint.features import (
    Features,
    View,
    choose_features,
    count,
    proportions,
)
from experiments.persona_leakage.fingerprint.impostors import impostors_score
from experiments.persona_leakage.fingerprint.lengths import level_of, levels_for
from experiments.persona_leakage.fingerprint.problems import Problem
from experiments.persona_leakage.fingerprint.space import (
    embed,
    fit_space,
    normalised,
    within_covariance,
)
from experiments.persona_leakage.fingerprint.verification import verify
from gdpo_jax.errors import UserError
from tests.experiments.persona_leakage.fingerprint.authors import problems


def problem(name, known, unknown, same):
    return Problem(id=name, known=known, unknown=unknown, same=same)


def test_texts_that_problems_share_have_one_author():
    corpus = corpus_of(
        [
            problem("1", ("a", "b"), "c", True),
            problem("2", ("d",), "b\n", False),  # the same text as b, with another end
            problem("3", ("e",), "f", False),
        ]
    )
    assert corpus.texts == ("a", "b", "c", "d", "e", "f")
    a, b, c, d, e, f = corpus.authors
    assert a == b == c
    assert len({a, d, e, f}) == 4
    assert corpus.of_problem[0] == corpus.of_problem[1] != corpus.of_problem[2]


def test_a_truth_that_contradicts_itself():
    with pytest.raises(UserError, match="problem '2' says two authors"):
        corpus_of([problem("1", ("a",), "b", True), problem("2", ("a",), "b", False)])
    with pytest.raises(UserError, match="'1' has no truth"):
        corpus_of([problem("1", ("a",), "b", None)])


@given(st.lists(st.integers(0, 9), min_size=5), st.integers(2, 3), st.integers(0, 99))
def test_folds_hold_each_group_once(groups, count_of_folds, seed):
    groups = np.array([*groups, 0, 1, 2])
    parts = folds_of(groups, count=count_of_folds, rng=np.random.default_rng(seed))
    assert sorted(np.concatenate(parts)) == sorted(set(groups))


def test_counts_of_each_view():
    features = Features(
        frozenset({"the"}),
        (
            View("words", ("the", "!")),
            View("masked", ("the ", " * *")),
            View("characters", ("th",)),
        ),
    )
    # Distorted: "The * * the!"; of it the 4-grams "The ", "he *", "e * ", " * *", ... are counted.
    counts = count(features, ["The  big\nthing the!"])
    assert counts.tolist() == [[2.0, 1.0, 0.0, 1.0, 2.0]]
    assert proportions(features, counts)[0] ** 2 == pytest.approx([2 / 3, 1 / 3, 0, 1, 1])
    assert proportions(features, np.zeros((1, 5), np.float32)).tolist() == [[0.0] * 5]


def test_chosen_terms_are_the_most_frequent_ones():
    features = choose_features(["b a b", "c b"], kept=1, sizes={"words": 2})
    assert features.kept == {"b"}
    assert features.views == (View("words", ("b", "a")),)  # a before c, equally frequent


def test_covariance_within_authors():
    rows = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 1.0], [5.0, 3.0], [99.0, 99.0]])
    # Each pair lies 1 from its mean: squares 2 in one direction, over two degrees of freedom.
    assert within_covariance(rows, np.array([0, 0, 1, 1, 2])).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(UserError, match="no author has two texts"):
        within_covariance(rows, np.arange(5))


def test_a_similarity_is_measured_against_the_cohort():
    known, unknown = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    cohort = np.array([[1.0, 0.0], [0.0, 1.0]])
    # To the unknown text .6 and .8, mean .7, deviation .1; to the known one 1 and 0: .5, .5.
    assert normalised(known, unknown, cohort, cohort) == pytest.approx(-1.0 + 0.2)


def test_the_space_brings_an_author_s_texts_together():
    found = problems(20, seed=0)
    corpus = corpus_of(found)
    features = choose_features(corpus.texts)
    counts = count(features, corpus.texts)
    space = fit_space(features, counts, corpus.authors, dimensions=15)
    vectors = embed(features, space, counts)
    assert np.linalg.norm(vectors, axis=-1) == pytest.approx(1.0)
    similar = np.einsum("awd,bwd->ab", vectors, vectors) / len(features.views)
    same = corpus.authors[:, None] == corpus.authors[None, :]
    off = ~np.eye(len(corpus.texts), dtype=bool)
    assert similar[same & off].mean() > similar[~same].mean() + 0.4


def test_impostors_win_lose_and_tie():
    known = np.array([1.0, 1.0, 0.0, 0.0])
    far = np.array([[0.0, 0.0, 1.0, 1.0]] * 3)
    few = {"rounds": 20, "impostors": 2, "share": 0.75}
    assert impostors_score(known, known, far, **few) == 1.0
    assert impostors_score(far[0], known, np.array([known] * 2), **few) == 0.0
    assert impostors_score(known, known, np.array([known] * 2), **few) == 0.5
    with pytest.raises(UserError, match="1 texts for 2 impostors"):
        impostors_score(known, known, far[:1], **few)


SMALL = EncoderOptions(hidden=8, dimensions=4, steps=30, authors=4, dropout=0.1, learning_rate=0.02)


def test_the_encoder_brings_an_author_s_texts_together(getkey):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 12))
    authors = np.repeat(np.arange(6), 4)
    pieces = centres[authors][:, None] + 0.5 * rng.normal(size=(24, 2, 12))
    params = fit_encoder(pieces.astype(np.float32), authors, getkey(), SMALL)
    embedded = encode(params, pieces[:, 0])
    units = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    same = authors[:, None] == authors[None, :]
    similar = units @ units.T
    assert similar[same].mean() > similar[~same].mean() + 0.5
    # What answers without compiling is the module that was trained.
    module = encoders._module(SMALL)
    whole = module.apply({"params": jax.tree.map(np.asarray, params)}, pieces[:, 0].astype("f4"))
    np.testing.assert_allclose(embedded, whole, atol=1e-4)


def test_an_encoder_needs_authors_with_two_texts(getkey):
    with pytest.raises(UserError, match="two authors with two texts"):
        fit_encoder(np.zeros((3, 1, 4), np.float32), np.array([0, 0, 1]), getkey(), SMALL)


def test_levels_of_length():
    assert levels_for(["x" * 600, "x  x" * 150]) == (140, 280, 500, None)
    levels = (140, 280, None)
    sizes = (0, 100, 199, 200, 5000, 599, 600)
    # Halfway in ratio: 140 to 280 at 198, 280 to 1,280 at 598.7.
    assert [level_of(size, levels, 1280.0) for size in sizes] == [0, 0, 1, 1, 2, 2, 2]


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.data())
def test_rescaling_keeps_order_and_decides_at_the_cut_points(values, data):
    p1 = data.draw(st.floats(0.01, 0.5))
    p2 = data.draw(st.floats(0.51, 0.99))
    found = np.sort(np.array(values))
    scores = rescale(found, p1, p2)
    assert np.all(np.diff(scores) >= 0)
    assert np.all(scores[found <= p1] <= 0.49 + 1e-12)
    assert np.all(scores[(found > p1) & (found < p2)] == 0.5)
    assert np.all(scores[found >= p2] >= 0.51)


def test_the_baseline_separates_texts_that_repeat_words():
    pytest.importorskip("sklearn", reason="no scikit-learn; install the extra fingerprint")
    found = [
        problem("1", ("the old bridge fell down",), "an old bridge fell down", True),
        problem("2", ("the old bridge fell down",), "quick jumping zebras vex", False),
        problem("3", ("quick jumping zebras vex",), "zebras vex me, quick jumping", True),
        problem("4", ("some more letters here",), "an old bridge fell down", False),
    ]
    fitted = fit_baseline(found)
    values = similarities(fitted.vectorizer, found)
    assert values[1] == 0.0  # no 4-gram in common
    scores = rescale(values, fitted.p1, fitted.p2)
    assert verify([p.same for p in found], scores).pan20 == 1.0
    with pytest.raises(UserError, match="all with a truth"):
        fit_baseline([dataclasses.replace(found[0], same=None)])
    with pytest.raises(UserError, match="cut points must be"):
        rescale(values, 0.5, 0.5)
