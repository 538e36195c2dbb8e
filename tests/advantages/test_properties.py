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
    clip,
    combine,
    compute_advantages,
    constrained_grpo,
    corpo,
    corr_grpo,
    dr_grpo,
    drop_silent_groups,
    dvao,
    gd2po,
    gdpo,
    group_normalize,
    grpo,
    leave_one_out_normalize,
    papo,
    reinforce_pp,
    reward_batch,
    rloo,
    sa_mrpo,
    saw,
    subtract_penalty,
    weigh,
)
from gdpo_jax.errors import UserError

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


EVERY = {
    **ESTIMATORS,
    "gdpo, verl": gdpo((1.0, 0.5), convention="verl"),
    "gdpo, nemo": gdpo((1.0, 0.5), convention="nemo"),
    "gdpo, swift": gdpo((1.0, 0.5), convention="ms_swift"),
    "gdpo, nvlabs": gdpo((1.0, 0.5), convention="nvlabs"),
    "leave one out": chain(leave_one_out_normalize(), combine()),
    "grpo, batch": grpo(scale="batch"),
    "reinforce_pp": reinforce_pp(),
    "gd2po": gd2po(mode="snr"),
    "papo": papo("a", "b", at_least=0.0),
    "sa_mrpo": sa_mrpo({"a": (-1.0, 1.0), "b": (-2.0, 3.0)}),
    "saw": saw(),
    "dvao": dvao(),
    "corr_grpo": corr_grpo(),
    "constrained": constrained_grpo({"b": 0.2}, step_size=0.1),
    "corpo": corpo(0.5),
    "silent": chain(drop_silent_groups("a"), gdpo()),
    "penalised": chain(weigh(), combine(), subtract_penalty(0.1), group_normalize(), clip(3.0)),
}
LENGTHS = np.arange(B * G, dtype=np.float32).reshape(B, G) % 4 + 1


def _some(values, valid, estimators):
    rewards = RewardBatch(values=values, valid=valid, names=NAMES)
    found = {}
    for name in estimators:
        t = EVERY[name]
        found[name] = compute_advantages(
            t, rewards, t.init(NAMES), lengths=LENGTHS, penalty=LENGTHS
        )
    return found


def _some_mapped(values, valid, estimators):
    return jax.vmap(lambda *one: _some(*one, estimators))(values, valid)


# Four estimators a program: one program of all of them takes a quarter longer to compile.
PARTS = [tuple(EVERY)[i : i + 4] for i in range(0, len(EVERY), 4)]
_some_compiled, _some_mapped_compiled = (
    jax.jit(some, static_argnums=2, compiler_options=FAST_COMPILE) for some in (_some, _some_mapped)
)


def of_every_estimator(run, values, valid):
    """Advantages, states and metrics as NumPy arrays by path; `run` is `_some`, or it compiled."""
    results = {}
    for part in PARTS:
        results |= run(values, valid, part)
    assert results.keys() == EVERY.keys()
    flat = jax.tree_util.tree_leaves_with_path(results)
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in flat}


@pytest.mark.slow
def test_eager_jit_and_vmap_agree():
    """Advantages, states and metrics of every estimator."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, B, G, K)).astype(np.float32)
    valid = rng.random(values.shape) < 0.8
    mapped = of_every_estimator(_some_mapped_compiled, values, valid)
    eager = of_every_estimator(_some, values[0], valid[0])
    assert mapped.keys() == eager.keys()
    for i in range(2):
        for name, x in of_every_estimator(_some_compiled, values[i], valid[i]).items():
            np.testing.assert_allclose(mapped[name][i], x, rtol=1e-5, atol=2e-6, err_msg=name)
            if i == 0:
                np.testing.assert_allclose(eager[name], x, rtol=1e-5, atol=2e-6, err_msg=name)


extreme = st.sampled_from([1e30, -1e30, 1.2e30, 3e38, -3e38, 1e-30, -1e-38, 0.0, 1.0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_number_of_every_estimator_is_finite(dtype):
    """Advantages, states and metrics, for rewards of any size."""

    @QUICK
    @given(hnp.arrays(np.float32, (B, G, K), elements=extreme), masks)
    def check(values, valid):
        values = np.asarray(jnp.asarray(values, dtype))
        for name, x in of_every_estimator(_some_compiled, values, valid).items():
            assert np.all(np.isfinite(x)), name

    check()


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


def one(transform, values, names=("a", "b"), **options):
    """Advantages of one batch, compiled."""
    rewards = reward_batch(np.asarray(values, np.float32), names)

    def run(rewards, state):
        return compute_advantages(transform, rewards, state, **options)[0].values

    return np.asarray(jax.jit(run)(rewards, transform.init(names)))


def test_a_small_real_sum_is_not_rounded_away():
    """Eight rewards whose z-scores nearly cancel in one sample, in a group with signal."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(1, 16, 8))
    z = (values - values.mean(1)) / values.std(1, ddof=1)
    values[0, 3, 7] -= (z[0, 3].sum() - 2e-5) * values[0, :, 7].std(ddof=1)
    for _ in range(30):  # the statistics move with the value
        z = (values - values.mean(1)) / values.std(1, ddof=1)
        values[0, 3, 7] -= 0.9 * (z[0, 3].sum() - 2e-5) * values[0, :, 7].std(ddof=1)
    with jax.enable_x64(True):
        transform = chain(group_normalize(), weigh(), combine())
        rewards = reward_batch(values, tuple("abcdefgh"))
        exact = jax.jit(lambda r, s: compute_advantages(transform, r, s)[0].values)(
            rewards, transform.init(rewards.names)
        )
    np.testing.assert_allclose(exact[0, 3], 2e-5, rtol=1e-6)
    single = one(chain(group_normalize(), weigh(), combine()), values, tuple("abcdefgh"))
    np.testing.assert_allclose(single[0], exact[0], atol=3e-6)
    assert single[0, 3] != 0


def test_a_reward_beside_a_huge_constant_one():
    small = np.array([0.0, 1.0, 2.0, 5.0])
    for constant in (1e3, 1e30):
        values = np.stack([np.full(4, constant), small], axis=1)[None]
        decoupled = one(gdpo(), values)
        np.testing.assert_allclose(decoupled[0], (small - 2) / small.std(ddof=1), atol=1e-6)
        summed = one(grpo(), values)
        if constant == 1e3:
            np.testing.assert_allclose(summed[0], (small - 2) / small.std(ddof=1), atol=1e-3)
        else:  # 1e30 + 5 is 1e30: the sum has lost it before any estimator sees it
            np.testing.assert_array_equal(summed, 0)


def test_an_offset_costs_only_the_precision_of_the_rewards_themselves():
    rng = np.random.default_rng(4)
    values = (1e5 + rng.normal(size=(64, 8, 1))).astype(np.float32)
    exact = values[:, :, 0].astype(np.float64)
    whitened = (exact - exact.mean()) / exact.std(ddof=1)
    np.testing.assert_allclose(one(reinforce_pp(), values, ("a",)), whitened, atol=2e-5)
    centred = exact - exact.mean(1, keepdims=True)
    np.testing.assert_allclose(one(rloo(), values, ("a",)), centred * 8 / 7, atol=2e-6)
    found = one(chain(leave_one_out_normalize(), combine()), values, ("a",))
    others = np.stack([np.delete(exact, g, axis=1) for g in range(8)], axis=1)
    expected = (exact - others.mean(2)) / others.std(2, ddof=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_saw_survives_rewards_whose_mean_is_zero():
    values = np.tile(np.array([[1e30, -1e30, 1e30, -1e30]], np.float32)[:, :, None], (1, 1, 5))
    assert np.all(np.isfinite(one(saw(), values, tuple("abcde"))))


@pytest.mark.parametrize(
    ("values", "names", "options", "message"),
    [
        (np.zeros((2, 3)), ("a",), {}, r"shape \(2, 3\)"),
        (np.zeros((2, 3, 2)), ("a", "a"), {}, "differ"),
        (np.zeros((2, 3, 0)), (), {}, "at least one"),
        (np.zeros((2, 3, 2)), "ab", {}, "1 names"),
        ([[[1.0], [2.0]], [[3.0]]], ("a",), {}, "of one size"),
        ([[["good"], [1.0]]], ("a",), {}, "must be numbers"),
        (np.zeros((2, 3, 1)), ("a",), {"valid": np.ones((2, 3))}, r"valid has shape \(2, 3\)"),
        (np.zeros((2, 3, 1)), ("a",), {"sample_valid": np.ones((3, 2))}, r"must be \(2, 3\)"),
        (np.full((1, 2, 1), -np.inf), ("a",), {}, "'a' is infinite at prompt 0, sample 0"),
    ],
)
def test_rewards_that_are_none_are_refused(values, names, options, message):
    with pytest.raises(UserError, match=message):
        reward_batch(values, names, **options)


def test_missing_rewards_of_every_spelling_are_the_same():
    spellings = [
        reward_batch([[[1, None], [np.nan, 2]]], ("a", "b")),
        reward_batch(np.array([[[1, np.nan], [np.nan, 2]]], np.float16), ("a", "b")),
        reward_batch(np.ones((1, 2, 2)), ("a", "b"), valid=[[[1, 0], [0, 1]]]),
        reward_batch(np.array([[[1, np.inf], [-np.inf, 2]]]), ("a", "b"), valid=[[[1, 0], [0, 1]]]),
    ]
    for rewards in spellings:
        np.testing.assert_array_equal(rewards.valid, [[[True, False], [False, True]]])
