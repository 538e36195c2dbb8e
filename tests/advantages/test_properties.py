"""What must hold for any rewards: symmetry, invariance, masks that do not vote, finite numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gdpo_jax.advantages import (
    RewardBatch,
    chain,
    combine,
    compute_advantages,
    dr_grpo,
    gdpo,
    group_normalize,
    grpo,
    rloo,
    weigh,
)

B, G, K = 3, 5, 2
NAMES = ("a", "b")
ESTIMATORS = {
    "gdpo": gdpo((1.0, 0.5)),
    "grpo": grpo((1.0, 0.5)),
    "dr_grpo": dr_grpo((1.0, 0.5)),
    "rloo": rloo((1.0, 0.5)),
}
FAST_COMPILE = {"xla_backend_optimization_level": 0}
QUICK = settings(max_examples=30, deadline=None, derandomize=True, database=None)

small_numbers = hnp.arrays(np.float32, (B, G, K), elements=st.integers(-4, 4).map(float))
masks = hnp.arrays(np.bool_, (B, G, K))


def _all_values(rewards):
    return {
        name: compute_advantages(t, rewards, t.init(NAMES))[0] for name, t in ESTIMATORS.items()
    }


_compiled = jax.jit(_all_values, compiler_options=FAST_COMPILE)


def values_of(values, valid=None):
    """All estimators on one batch, as NumPy arrays by name."""
    valid = np.ones(values.shape, bool) if valid is None else valid
    found = _compiled(RewardBatch(values=values, valid=valid, names=NAMES))
    return {name: np.asarray(advantages.values) for name, advantages in found.items()}


def assert_same(first, second, atol=5e-6):
    for name in ESTIMATORS:
        np.testing.assert_allclose(first[name], second[name], atol=atol, err_msg=name)


@QUICK
@given(small_numbers, masks, st.permutations(range(G)), st.permutations(range(B)))
def test_permuting_samples_and_prompts_permutes_advantages(values, valid, samples, prompts):
    plain = values_of(values, valid)
    order = np.ix_(prompts, samples)
    permuted = values_of(values[order], valid[order])
    assert_same({name: x[order] for name, x in plain.items()}, permuted)


@QUICK
@given(
    small_numbers,
    st.tuples(*[st.integers(-3, 20)] * K),
    st.tuples(*[st.integers(-1000, 1000)] * K),
)
def test_gdpo_does_not_see_the_units_of_a_reward(values, exponents, offsets):
    scale = np.float32(2.0) ** np.array(exponents, np.float32)
    moved = (values + np.array(offsets, np.float32)) * scale
    plain, other = values_of(values), values_of(moved)
    np.testing.assert_allclose(other["gdpo"], plain["gdpo"], atol=5e-6)


@QUICK
@given(small_numbers, st.integers(-8, 8), st.integers(-50, 50))
def test_grpo_sees_only_the_relative_units(values, exponent, offset):
    plain = values_of(values)
    scaled = values_of((values + np.float32(offset)) * np.float32(2.0) ** np.float32(exponent))
    np.testing.assert_allclose(scaled["grpo"], plain["grpo"], atol=2e-5)


@QUICK
@given(
    small_numbers,
    masks,
    hnp.arrays(
        np.float32,
        (B, G, K),
        elements=st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 0.0, 7.0]),
    ),
)
def test_what_stands_under_the_mask_is_never_seen(values, valid, junk):
    clean = values_of(np.where(valid, values, 0), valid)
    dirty = values_of(np.where(valid, values, junk), valid)
    for name in ESTIMATORS:
        np.testing.assert_array_equal(clean[name], dirty[name])
        assert np.all(clean[name][~valid.any(axis=2)] == 0)


@QUICK
@given(small_numbers, st.integers(0, G - 1), st.integers(0, B - 1))
def test_masked_samples_and_prompts_are_padding(values, sample, prompt):
    """A batch with one more prompt and one more sample, both masked, gives the smaller batch."""
    keep = np.ix_(
        [b for b in range(B) if b != prompt], [g for g in range(G) if g != sample], range(K)
    )
    valid = np.zeros((B, G, K), bool)
    valid[keep] = True
    padded = values_of(values, valid)
    small = values_of(values[keep])
    for name in ESTIMATORS:
        np.testing.assert_allclose(
            padded[name][keep[0][..., 0], keep[1][..., 0]], small[name], atol=5e-6
        )


@QUICK
@given(small_numbers, masks)
def test_group_estimators_do_not_depend_on_the_batch_around_them(values, valid):
    whole = values_of(values, valid)
    for b in range(B):
        alone = values_of(values[b : b + 1], valid[b : b + 1])
        for name in ("grpo", "dr_grpo", "rloo"):
            np.testing.assert_allclose(alone[name][0], whole[name][b], atol=5e-6)


huge = st.floats(-(2.0**99), 2.0**99, width=32) | st.sampled_from([1e30, -1e30, 1e-30, 0.0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_nan_for_any_finite_reward(dtype):
    @QUICK
    @given(hnp.arrays(np.float32, (B, G, K), elements=huge), masks)
    def check(values, valid):
        for name, x in values_of(np.asarray(jnp.asarray(values, dtype)), valid).items():
            assert x.dtype == np.float32
            assert np.all(np.isfinite(x)), name
        normal = values_of(np.asarray(jnp.asarray(values, dtype)), valid)
        assert np.all(np.abs(normal["grpo"]) < G**0.5)
        assert np.all(np.abs(normal["gdpo"]) < (B * G) ** 0.5)

    check()


def test_huge_and_tiny_rewards_keep_their_z_scores():
    base = np.arange(B * G * K, dtype=np.float32).reshape(B, G, K) % 7
    plain = values_of(base)
    for factor in (2.0**97, 2.0**-97):
        scaled = values_of(base * np.float32(factor))
        for name in ("gdpo", "grpo"):
            np.testing.assert_allclose(scaled[name], plain[name], atol=2e-6, err_msg=name)


def test_eager_jit_and_vmap_agree():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, B, G, K)).astype(np.float32)
    valid = rng.random(values.shape) < 0.8
    rewards = RewardBatch(values=values, valid=valid, names=NAMES)
    one = jax.vmap(lambda v, m: _all_values(RewardBatch(values=v, valid=m, names=NAMES)))
    mapped = jax.jit(one, compiler_options=FAST_COMPILE)(rewards.values, rewards.valid)
    for i in range(2):
        compiled = values_of(values[i], valid[i])
        assert_same({name: x.values[i] for name, x in mapped.items()}, compiled, atol=2e-6)
    one_group = RewardBatch(values=values[0], valid=valid[0], names=NAMES)
    eager, _, _ = compute_advantages(
        ESTIMATORS["dr_grpo"], one_group, ESTIMATORS["dr_grpo"].init(NAMES)
    )
    np.testing.assert_allclose(eager.values, values_of(values[0], valid[0])["dr_grpo"], atol=2e-6)


@QUICK
@given(hnp.arrays(np.float32, (B, G, K), elements=st.sampled_from([0.0, 1.0])))
def test_one_reward_relations(values):
    """With K = 1, GDPO is GRPO whitened over the batch; a positive weight changes neither."""
    alone = np.concatenate([values[:, :, :1], np.zeros_like(values[:, :, :1])], axis=2)
    found = values_of(alone)
    sd = found["grpo"].std(ddof=1)
    expected = found["grpo"] / sd if sd > 0 else found["grpo"]
    np.testing.assert_allclose(found["gdpo"], expected, atol=5e-6)
    rewards = RewardBatch(values=values[:, :, :1], valid=np.ones((B, G, 1), bool), names=("a",))
    np.testing.assert_allclose(_one_reward(rewards)["gdpo"], expected, atol=5e-6)
    np.testing.assert_allclose(_one_reward(rewards)["grpo"], found["grpo"], atol=5e-6)
    np.testing.assert_allclose(found["rloo"], found["dr_grpo"] * G / (G - 1), atol=5e-6)


@jax.jit
def _one_reward(rewards):
    single = {"gdpo": gdpo((3.0,)), "grpo": grpo((3.0,))}
    return {
        name: compute_advantages(t, rewards, t.init(("a",)))[0].values for name, t in single.items()
    }


def test_no_gradient_flows_through_advantages():
    def total(values):
        rewards = RewardBatch(values=values, valid=jnp.ones((1, 3, 1), bool), names=("a",))
        transform = chain(group_normalize(), weigh(), combine())
        return jnp.sum(compute_advantages(transform, rewards, transform.init(("a",)))[0].values)

    gradient = jax.jit(jax.grad(total))(jnp.ones((1, 3, 1)))
    np.testing.assert_array_equal(gradient, np.zeros((1, 3, 1)))
