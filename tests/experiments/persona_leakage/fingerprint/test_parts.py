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
from experiments.persona_leakage.fingerprint.encoder import EncoderOptions, fit_encoder
from experiments.persona_leakage.fingerprint.evaluation import alone
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
    standardise,
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
    similar = similarities_in(features, space, counts)
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


SMALL = EncoderOptions(steps=30, authors=4, dropout=0.1, learning_rate=0.02)


def similarities_in(features, space, counts):
    """The mean of the views' cosines of all pairs of texts."""
    vectors = embed(features, space, counts)
    return np.einsum("awd,bwd->ab", vectors, vectors) / len(features.views)


def two_views():
    """Counts of 6 authors' texts, 4 each, whose 12 terms stand in two views of different size, and
    their space before whitening: three terms of each view tell the subject alone."""
    rng = np.random.default_rng(0)
    features = Features(
        frozenset(), (View("words", tuple("abcde")), View("characters", tuple("fghijkl")))
    )
    authors = np.repeat(np.arange(6), 4)
    rates = np.exp(rng.normal(0, 0.5, (6, 12)))[authors]
    subject = [0, 1, 2, 5, 6, 7]
    rates[:, subject] = np.exp(rng.normal(0, 1, (24, 6)))
    counts = rng.poisson(50 * rates).astype(np.float32)
    return features, authors, counts, fit_space(features, counts, authors, shrinkage=1.0)


def test_an_encoder_without_a_step_is_the_space(getkey):
    features, authors, counts, space = two_views()
    pieces = standardise(features, space, counts)[:, None]
    none = dataclasses.replace(SMALL, steps=0)
    encoder = fit_encoder(features, space, pieces, authors, getkey(), none)
    np.testing.assert_allclose(
        embed(features, encoder, counts), embed(features, space, counts), atol=1e-5
    )


def test_the_encoder_brings_an_author_s_texts_closer_than_the_space(getkey):
    features, authors, counts, space = two_views()
    rng = np.random.default_rng(1)
    pieces = standardise(features, space, np.stack([counts, rng.poisson(counts)], axis=1))
    encoder = fit_encoder(features, space, pieces, authors, getkey(), SMALL)
    same = authors[:, None] == authors[None, :]
    off = ~np.eye(len(authors), dtype=bool)

    def gap(of):
        similar = similarities_in(features, of, counts)
        return similar[same & off].mean() - similar[~same].mean()

    assert gap(encoder) > gap(space) + 0.1


def test_the_encoder_s_loss_is_that_of_the_scored_similarity():
    # What is trained and what answers are two programs: the same vectors but for their length.
    features, _, counts, space = two_views()
    module = encoders._module(features, space, dropout=0.0)
    standard = standardise(features, space, counts).astype(np.float32)
    params = {f"view{n}": {"kernel": axes.astype("f4")} for n, axes in enumerate(space.axes)}
    rows = module.apply({"params": params}, standard, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_allclose(
        rows @ rows.T / 2, similarities_in(features, space, counts), atol=1e-5
    )


def test_an_encoder_needs_authors_with_two_texts(getkey):
    features, _, counts, space = two_views()
    pieces = standardise(features, space, counts[:3])[:, None]
    with pytest.raises(UserError, match="two authors with two texts"):
        fit_encoder(features, space, pieces, np.array([0, 0, 1]), getkey(), SMALL)


def test_a_scorer_alone_and_what_training_adds():
    same = np.array([1, 1, 0, 0])
    scores = np.array([[3.0, 4.0, 0.0], [1.0, 3.0, 0.0], [2.0, 2.0, 0.0], [0.0, 1.0, 0.0]])
    found = alone(same, scores, samples=200)
    # Three of the space's four pairs of a genuine and another text, all of the encoder's, ties.
    assert found.aucs == (0.75, 1.0, 0.5)
    assert found.trained == 0.25
    low, high = found.trained_interval
    assert 0 <= low < found.trained < high <= 1


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
