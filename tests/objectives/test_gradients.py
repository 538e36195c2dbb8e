"""Gradients of the objective: against finite differences in float64, and REINFORCE at ratio one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.objectives import (
    ObjectiveConfig,
    SamplerCorrection,
    count_denominators,
    policy_objective,
)

N, C = 3, 5
RNG = np.random.default_rng(7)
LOG_PROBS = -RNG.uniform(0.5, 3, (N, C))
OLD = LOG_PROBS + RNG.normal(0, 0.3, (N, C))
REFERENCE = LOG_PROBS + RNG.normal(0, 0.5, (N, C))
ADVANTAGES = RNG.normal(size=(N, C))
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
ITEMS = np.array([[0, 0, 1, 1, -1], [0, 1, 1, 2, 2], [0, 0, 0, 0, 0]])

CONFIGS = {
    "grpo": ObjectiveConfig(aggregation="grpo", kl="k3", kl_coef=0.1),
    "dapo, dual clip": ObjectiveConfig(clip_high=0.28, dual_clip=1.2, kl="k2", kl_coef=0.1),
    "dr_grpo, delta": ObjectiveConfig(aggregation="dr_grpo", max_length=C, delta=1.3),
    "rank": ObjectiveConfig(level="segment", aggregation="item_mean", kl="abs", kl_coef=0.1),
    "gspo": ObjectiveConfig(level="sequence", aggregation="grpo", clip_low=0.05, clip_high=0.05),
    "sapo": ObjectiveConfig(surrogate="sapo", kl="k3", kl_coef=0.1, kl_weighted=True),
    "reinforce": ObjectiveConfig(surrogate="reinforce", aggregation="sequence_sum"),
    "entropy": ObjectiveConfig(aggregation="token_sum", entropy_coef=0.3),
    "k1": ObjectiveConfig(kl="k1", kl_coef=0.2),
    "kl-cov": ObjectiveConfig(old_kl_coef=0.7),
    "corrected": ObjectiveConfig(correction=SamplerCorrection(highest=1.2)),
    "rows dropped": ObjectiveConfig(
        correction=SamplerCorrection(level="sequence", mode="mask", highest=1.0)
    ),
}
HELD = RNG.random((N, C)) < 0.4
SAMPLED = OLD + RNG.normal(0, 0.2, (N, C))
SAMPLED[0] = OLD[0] + 0.1  # a product below one: this row stays under "rows dropped"


def loss_of(config, log_probs, *, old=OLD, reference=REFERENCE):
    loss, _ = policy_objective(
        config,
        log_probs=log_probs,
        old_log_probs=jnp.asarray(old, log_probs.dtype),
        ref_log_probs=jnp.asarray(reference, log_probs.dtype),
        advantages=jnp.asarray(ADVANTAGES, log_probs.dtype),
        mask=jnp.asarray(MASK),
        segment_ids=jnp.asarray(ITEMS),
        entropy=-log_probs,
        old_kl_tokens=jnp.asarray(HELD) if config.old_kl_coef else None,
        sampled_log_probs=jnp.asarray(SAMPLED, log_probs.dtype),
        denominators=count_denominators(jnp.asarray(MASK), jnp.asarray(ITEMS)),
    )
    return loss


@pytest.mark.parametrize("name", CONFIGS)
def test_gradient_is_the_finite_difference(name):
    config = CONFIGS[name]
    with jax.enable_x64(True):
        function = jax.jit(lambda x: loss_of(config, x))
        gradient = np.asarray(jax.jit(jax.grad(lambda x: loss_of(config, x)))(LOG_PROBS))
        step, numeric = 1e-6, np.zeros((N, C))
        for place in np.ndindex(N, C):
            up, down = LOG_PROBS.copy(), LOG_PROBS.copy()
            up[place] += step
            down[place] -= step
            numeric[place] = (function(up) - function(down)) / (2 * step)
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)
    assert np.all(gradient[~MASK] == 0)
    assert np.any(gradient != 0)


def test_gradients_with_a_held_ratio_are_those_of_their_formula():
    """CISPO and GSPO-token stop a gradient, which no finite difference sees."""
    ratio = np.exp(np.where(MASK, LOG_PROBS - OLD, 0))
    tokens = MASK.sum()
    with jax.enable_x64(True):

        def gradient(config):
            return np.asarray(jax.jit(jax.grad(lambda x: loss_of(config, x)))(LOG_PROBS))

        found = gradient(ObjectiveConfig(surrogate="cispo", cispo_lowest=0.9, cispo_highest=1.1))
        held = np.clip(ratio, 0.9, 1.1)
        np.testing.assert_allclose(found, -held * ADVANTAGES * MASK / tokens, atol=1e-12)

        found = gradient(ObjectiveConfig(level="sequence_token", clip_low=0.1, clip_high=0.1))
        count = np.maximum(MASK.sum(1, keepdims=True), 1)
        mean = np.where(MASK, LOG_PROBS - OLD, 0).sum(1, keepdims=True) / count
        sequence = np.exp(mean) * np.ones((N, C))
        clipped = np.where(ADVANTAGES > 0, sequence > 1.1, sequence < 0.9)
        expected = np.where(clipped, 0, -sequence * ADVANTAGES) * MASK / tokens
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert 0 < clipped[MASK].sum() < tokens or not clipped[MASK].any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_low": 0.0, "clip_high": 0.0},  # ratio 1 is on both bounds, and inside
        {"dual_clip": 3.0, "delta": 2.0},
        {"surrogate": "cispo"},
        {"surrogate": "sapo"},
        {"level": "sequence_token"},
        {"surrogate": "reinforce"},
        {"old_kl_coef": 0.5},  # |lp - old| is at its minimum
    ],
)
def test_on_policy_the_gradient_is_that_of_reinforce(options):
    """The gradient of -A log p / tokens, exactly; for SAPO (tau cancels) up to one rounding."""
    config = ObjectiveConfig(**options)
    log_probs = jnp.asarray(LOG_PROBS, jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: loss_of(config, x, old=LOG_PROBS)))(log_probs)
    expected = -np.asarray(ADVANTAGES, np.float32) * MASK / np.float32(MASK.sum())
    np.testing.assert_allclose(gradient, expected, rtol=2e-7 if "sapo" in options.values() else 0)


@pytest.mark.parametrize("level", ["segment", "sequence"])
def test_on_policy_the_gradient_of_a_pooled_ratio_is_reinforce_too(level):
    """With one advantage per item (or sequence), the token mean of the pooled ratio is the same
    sum.
    """
    config = ObjectiveConfig(level=level)
    shared = np.array([[2.0] * C, [-1.0] * C, [5.0] * C], np.float32)

    def loss(x):
        return policy_objective(
            config,
            log_probs=x,
            old_log_probs=jnp.asarray(LOG_PROBS, jnp.float32),
            advantages=jnp.asarray(shared),
            mask=jnp.asarray(MASK),
            segment_ids=jnp.asarray(ITEMS),
            denominators=count_denominators(jnp.asarray(MASK)),
        )[0]

    gradient = jax.jit(jax.grad(loss))(jnp.asarray(LOG_PROBS, jnp.float32))
    np.testing.assert_allclose(gradient, -shared * MASK / MASK.sum(), atol=1e-7)


def test_k1_has_no_gradient_of_its_own_and_straight_through_has_that_of_k2():
    with jax.enable_x64(True):

        def gradient(name):
            config = ObjectiveConfig(surrogate="reinforce", kl=name, kl_coef=1.0)
            without = ObjectiveConfig(surrogate="reinforce")

            def only_kl(x):
                return loss_of(config, x) - loss_of(without, x)

            return np.asarray(jax.jit(jax.grad(only_kl))(LOG_PROBS))

        np.testing.assert_allclose(gradient("k1"), MASK / MASK.sum(), atol=1e-12)
        np.testing.assert_allclose(gradient("k3+"), gradient("k2"), atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_stands_outside_the_mask_is_never_seen(name):
    config = CONFIGS[name]
    clean = jnp.asarray(LOG_PROBS, jnp.float32)
    dirty = jnp.where(MASK, clean, jnp.asarray([[-jnp.inf], [jnp.nan], [3e38]], jnp.float32))
    compute = jax.jit(jax.value_and_grad(lambda x: loss_of(config, x)))
    (loss, gradient), (same, other) = compute(clean), compute(dirty)
    assert np.isfinite(loss)
    assert loss == same
    np.testing.assert_array_equal(gradient, other)
    assert np.all(np.asarray(other)[~MASK] == 0)
