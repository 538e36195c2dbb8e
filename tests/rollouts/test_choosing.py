"""The distribution of drawn tokens, the sets that cuts keep, and the returned log-probs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.rollouts.choosing import (
    choose_token,
    inverse_cdf,
    keep_min_p,
    keep_top_k,
    keep_top_p,
)

choose = jax.jit(choose_token, static_argnames=("temperature", "top_k", "top_p", "min_p"))
cut = jax.jit(keep_top_p, static_argnames="top_p")
drawn = jax.jit(inverse_cdf)


def frequencies(logits, key, draws, **options):
    rows = jnp.broadcast_to(logits, (draws, logits.size))
    tokens, *_ = choose(rows, jax.random.uniform(key, (draws,)), **options)
    return np.bincount(np.asarray(tokens), minlength=logits.size) / draws


def chi_square(observed, expected, draws):
    used = expected > 0
    assert not observed[~used].any()
    return draws * (((observed - expected) ** 2)[used] / expected[used]).sum(), used.sum() - 1


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_tokens_follow_the_tempered_softmax(getkey, temperature):
    logits = jax.random.normal(getkey(), (300,))  # three blocks, the last one padded
    observed = frequencies(logits, getkey(), 40_000, temperature=temperature, top_p=1.0)
    expected = np.asarray(jax.nn.softmax(logits / temperature), np.float64)
    value, freedom = chi_square(observed, expected, 40_000)
    assert value < freedom + 4 * (2 * freedom) ** 0.5


def test_tokens_follow_the_renormalised_top_p_set(getkey):
    logits = 2 * jax.random.normal(getkey(), (50,))
    observed = frequencies(logits, getkey(), 40_000, temperature=1.0, top_p=0.7)
    probs = np.asarray(jax.nn.softmax(logits), np.float64)
    expected = np.where(top_p_by_sorting(probs, 0.7), probs, 0)
    value, freedom = chi_square(observed, expected / expected.sum(), 40_000)
    assert value < freedom + 4 * (2 * freedom) ** 0.5


def top_p_by_sorting(probs, top_p):
    order = np.argsort(-probs, kind="stable")
    before = np.cumsum(probs[order]) - probs[order]
    kept = np.zeros(len(probs), bool)
    kept[order[before < top_p * probs.sum()]] = True
    return kept


@pytest.mark.parametrize("size", [5, 300])
def test_a_target_that_rounding_puts_at_the_sum_takes_the_last_positive_weight(size):
    weights = np.zeros((2, size), np.float32)
    weights[0, [1, 3]] = 0.3, 0.1
    weights[1, size - 2] = 2.0
    np.testing.assert_array_equal(drawn(weights, np.ones(2, np.float32)), [3, size - 2])


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.999])
def test_the_top_p_set_is_the_one_that_sorting_finds(top_p):
    draw = np.random.default_rng(4)
    weights = np.stack(
        [draw.permutation(np.geomspace(1e-6, draw.uniform(), 40)) for _ in range(50)]
    )
    weights = weights.astype(np.float32)
    kept = np.asarray(cut(weights, top_p=top_p)) > 0
    for row, found in zip(weights, kept):
        np.testing.assert_array_equal(found, top_p_by_sorting(row.astype(np.float64), top_p))


def test_top_p_keeps_tokens_of_equal_weight_together():
    kept = cut(jnp.array([[0.5, 0.25, 0.25, 0.0]]), top_p=0.6)
    np.testing.assert_array_equal(kept, [[0.5, 0.25, 0.25, 0.0]])


def test_zero_temperature_takes_the_first_largest_logit():
    logits = jnp.array([[0.0, 3.0, 3.0], [2.0, 1.0, -1.0]])
    tokens, log_probs, sampled = choose(logits, jnp.array([0.99, 0.99]), temperature=0.0, top_p=1.0)
    np.testing.assert_array_equal(tokens, [1, 0])
    assert sampled is None
    expected = jax.nn.log_softmax(logits)[jnp.arange(2), tokens]
    np.testing.assert_allclose(log_probs, expected, atol=1e-6)


@pytest.mark.parametrize("top_p", [1.0, 0.3])
def test_log_probs_are_those_of_the_whole_tempered_distribution(getkey, top_p):
    logits = 5 * jax.random.normal(getkey(), (64, 1000))
    uniforms = jax.random.uniform(getkey(), (64,))
    tokens, log_probs, _ = choose(logits, uniforms, temperature=0.7, top_p=top_p)
    expected = np.take_along_axis(
        np.asarray(jax.nn.log_softmax(logits / 0.7)), np.asarray(tokens)[:, None], axis=1
    )[:, 0]
    np.testing.assert_allclose(log_probs, expected, atol=1e-5)


def kept_by_sorting(probs, top_k, top_p, min_p):
    """The tokens that the cuts leave, one after another, and their renormalised probabilities."""
    kept = np.ones(len(probs), bool)
    if top_k:
        kept = probs >= np.sort(probs)[-min(top_k, len(probs))]
    kept &= top_p_by_sorting(np.where(kept, probs, 0), top_p)
    kept &= probs >= min_p * probs.max()
    return kept, np.where(kept, probs, 0) / probs[kept].sum()


@pytest.mark.parametrize(
    "cuts",
    [
        {"top_k": 7, "top_p": 1.0, "min_p": 0.0},
        {"top_k": 0, "top_p": 0.6, "min_p": 0.0},
        {"top_k": 0, "top_p": 1.0, "min_p": 0.2},
        {"top_k": 9, "top_p": 0.9, "min_p": 0.05},
        {"top_k": 1, "top_p": 1.0, "min_p": 0.0},
        {"top_k": 500, "top_p": 1.0, "min_p": 0.0},
    ],
)
def test_sampled_log_probs_are_those_of_the_renormalised_kept_tokens(getkey, cuts):
    logits = 2 * jax.random.normal(getkey(), (400, 150))
    uniforms = jax.random.uniform(getkey(), (400,))
    tokens, log_probs, sampled = choose(logits, uniforms, temperature=0.8, **cuts)
    probs = np.asarray(jax.nn.softmax(logits / 0.8), np.float64)
    for row, token, found in zip(probs, np.asarray(tokens), np.asarray(sampled)):
        kept, renormalised = kept_by_sorting(row, **cuts)
        assert kept[token]
        np.testing.assert_allclose(found, np.log(renormalised[token]), atol=2e-6)
    assert (sampled >= log_probs - 1e-6).all()


def test_tokens_follow_the_distribution_that_all_cuts_leave(getkey):
    logits = 2 * jax.random.normal(getkey(), (50,))
    cuts = {"top_k": 20, "top_p": 0.9, "min_p": 0.1}
    observed = frequencies(logits, getkey(), 40_000, temperature=1.0, **cuts)
    probs = np.asarray(jax.nn.softmax(logits), np.float64)
    kept, expected = kept_by_sorting(probs, **cuts)
    # The cuts depend on their order: top-p of what top-k left keeps fewer tokens.
    assert 1 < kept.sum() < min(20, top_p_by_sorting(probs, 0.9).sum())
    value, freedom = chi_square(observed, expected, 40_000)
    assert value < freedom + 4 * (2 * freedom) ** 0.5


def test_without_a_cut_there_is_one_log_prob():
    logits, uniforms = jnp.zeros((1, 4)), jnp.zeros(1)
    assert choose(logits, uniforms, temperature=1.0, top_p=1.0)[2] is None


def test_top_k_and_min_p_keep_tokens_of_equal_weight_together():
    weights = jnp.array([[0.5, 0.25, 0.25, 0.1, 0.0], [0.1, 0.1, 0.1, 0.1, 0.1]])
    kept = jax.jit(keep_top_k, static_argnames="top_k")(weights, top_k=2)
    np.testing.assert_array_equal(kept > 0, [[1, 1, 1, 0, 0], [1] * 5])
    kept = jax.jit(keep_min_p, static_argnames="min_p")(weights, min_p=0.5)
    np.testing.assert_array_equal(kept > 0, [[1, 1, 1, 0, 0], [1] * 5])


def test_a_token_of_weight_zero_is_never_drawn_at_the_edges():
    weights = np.zeros((4, 300), np.float32)
    weights[:, [3, 140, 141]] = [1e-3, 0.5, 1e-7]
    last = np.nextafter(np.float32(1), np.float32(0))
    tokens = np.asarray(drawn(weights, np.array([0.0, 1e-7, 0.5, last], np.float32)))
    assert (weights[np.arange(4), tokens] > 0).all()
    assert tokens[0] == 3
