"""Differences that are rounding noise are no signal; differences above it survive any offset."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import plain_numpy as plain
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gdpo_jax.advantages import (
    any_reward_varies,
    append_reward,
    batch_normalize,
    chain,
    combine,
    compute_advantages,
    corr_grpo,
    divide_by_correlation,
    dr_grpo,
    drop_silent_groups,
    dvao,
    gdpo,
    group_center,
    group_normalize,
    grpo,
    leave_one_out_normalize,
    mo_grpo,
    reinforce_pp,
    reward_batch,
    reward_varies,
    rloo,
    saw,
    set_resolution,
    weigh,
    weighted_sum_varies,
)
from gdpo_jax.errors import UserError

FAST_COMPILE = {"xla_backend_optimization_level": 0}
NAMES = ("honest", "noisy")
ESTIMATORS = {
    "gdpo": gdpo(),
    "mo_grpo": mo_grpo(),
    "grpo": grpo(),
    "dr_grpo": dr_grpo(),
    "rloo": rloo(),
    "reinforce_pp": reinforce_pp(),
    "reinforce_pp, group": reinforce_pp(baseline="group"),
    "grpo, batch": grpo(scale="batch"),
    "dvao": dvao(),
    "corr_grpo": corr_grpo(),
    "saw": saw(),
    "leave one out": chain(leave_one_out_normalize(), combine()),
    "whitened": chain(combine(), batch_normalize()),
    "whitened each": chain(batch_normalize(), combine()),
    "centred each": chain(group_center(scale="batch"), weigh(), combine()),
    "mixed": chain(divide_by_correlation(), combine()),
}
EXACT = {
    "gdpo, 0": gdpo(resolution=0),
    "grpo, 0": grpo(resolution=0),
    "trl": gdpo(convention="trl"),
}
SET = {
    "gdpo": gdpo(resolution={"noisy": 0.05}),
    "grpo": grpo((1.0, 3.0), resolution={"noisy": 0.05}),
    "stage": chain(set_resolution(0.05), weigh((1.0, 3.0)), combine(), group_normalize()),
}


def compiled(transforms):
    def run(rewards):
        return {
            name: compute_advantages(t, rewards, t.init(rewards.names))[0].values
            for name, t in transforms.items()
        }

    compute = jax.jit(run, compiler_options=FAST_COMPILE)
    return lambda rewards: jax.tree.map(np.asarray, compute(rewards))


run_all, run_exact, run_set = map(compiled, (ESTIMATORS, EXACT, SET))
RNG = np.random.default_rng(0)
HONEST = RNG.integers(0, 2, (8, 8)).astype(np.float32)
HONEST[3] = 1.0
JITTER = RNG.standard_normal((8, 8))


def beside_honest(noisy):
    return reward_batch(np.stack([HONEST, np.asarray(noisy, np.float32)], axis=2), NAMES)


def test_a_reward_of_rounding_noise_is_a_constant_reward():
    noisy = run_all(beside_honest(0.73 + 1e-7 * JITTER))
    constant = run_all(beside_honest(0 * JITTER + 0.73))
    values = np.stack([0 * HONEST + 2, 0.73 + 1e-7 * JITTER], axis=2).astype(np.float32)
    alone = run_all(reward_batch(values, NAMES))
    for name, x in noisy.items():
        np.testing.assert_allclose(x, constant[name], atol=1e-6, err_msg=name)
        assert np.max(np.abs(x)) > 0.5, name
        np.testing.assert_array_equal(alone[name], 0, err_msg=name)


def test_exactness_can_be_asked_for_and_peers_leave_noise_to_their_eps():
    noisy = run_exact(beside_honest(0.73 + 1e-7 * JITTER))
    constant = run_exact(beside_honest(0 * JITTER + 0.73))
    assert np.max(np.abs(noisy["gdpo, 0"] - constant["gdpo, 0"])) > 0.5
    assert np.max(np.abs(noisy["gdpo, 0"][3])) > 0.5
    assert np.max(np.abs(noisy["trl"][3])) > 0


def test_a_resolution_is_in_the_units_of_its_reward():
    noisy = run_set(beside_honest(5 + 0.01 * np.clip(JITTER, -2, 2)))
    constant = run_set(beside_honest(0 * JITTER + 5))
    for name in ("gdpo", "grpo"):
        np.testing.assert_allclose(noisy[name], constant[name], atol=2e-6, err_msg=name)
    np.testing.assert_array_equal(noisy["stage"][3], 0)
    live = run_set(beside_honest(5 + 0.1 * np.arange(8) + 0 * JITTER))
    assert np.all(np.abs(live["gdpo"][3]) > 0.01) and np.all(np.abs(live["grpo"][3]) > 0.01)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_last_place_is_that_of_the_dtype_in_which_rewards_come(dtype):
    eps = float(jnp.finfo(dtype).eps)
    values = np.asarray(np.stack([HONEST, 0.73 + eps * np.round(JITTER).clip(-1, 1)], 2), dtype)
    noisy = run_all(reward_batch(values, NAMES))
    np.testing.assert_array_equal(noisy["gdpo"][3], 0)
    np.testing.assert_array_equal(noisy["grpo"][3], 0)
    graded = np.asarray(np.stack([HONEST, np.tile([0.25, 0.5, 0.7, 1.0], (8, 2))], 2), dtype)
    assert np.max(np.abs(run_all(reward_batch(graded, NAMES))["gdpo"][3])) > 0.3


def test_metrics_and_filters_see_the_same_noise():
    rewards = beside_honest(0.73 + 1e-7 * JITTER)
    expected = np.arange(8) != 3
    exact = {"resolution": 0}

    @jax.jit
    def look(rewards):
        dropped = chain(drop_silent_groups("noisy"), gdpo())
        found = [
            compute_advantages(t, rewards, t.init(NAMES))[2]
            for t in (gdpo(), gdpo(resolution=0), dropped)
        ]
        masks = {
            "noisy": reward_varies(rewards, "noisy"),
            "exact": reward_varies(rewards, "noisy", **exact),
            "any": any_reward_varies(rewards),
            "any, exact": any_reward_varies(rewards, **exact),
            "sum": weighted_sum_varies(rewards),
        }
        return found, masks

    (default, letter, dropped), masks = look(rewards)
    assert default["reward/noisy/zero_variance_fraction"] == 1
    np.testing.assert_allclose(default["zero_variance_fraction"], 1 / 8)
    assert letter["reward/noisy/zero_variance_fraction"] == 0
    assert letter["zero_variance_fraction"] == 0
    assert dropped["advantage/dropped_groups"] == 1
    assert not masks["noisy"].any() and masks["exact"].all() and masks["any, exact"].all()
    np.testing.assert_array_equal(masks["any"], expected)
    np.testing.assert_array_equal(masks["sum"], expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: gdpo(resolution={"x": 1.0}), r"unknown rewards \['x'\].*honest"),
        (lambda r: grpo(resolution=-1.0), "-1.0; it must be a number of at least 0"),
        (lambda r: gdpo(resolution=float("nan")), "nan; it must be"),
        (lambda r: chain(combine(), group_normalize(resolution={"a": 1.0})), "one number"),
        (lambda r: chain(combine(), set_resolution(0)), "before combine"),
    ],
)
def test_a_wrong_resolution_is_named(make, message):
    rewards = beside_honest(HONEST)
    transform = make(rewards)
    with pytest.raises(UserError, match=message):
        jax.eval_shape(
            lambda r: compute_advantages(transform, r, transform.init(NAMES))[0], rewards
        )


# Large offsets.

GROUP = 8
QUICK = settings(max_examples=40, deadline=None, derandomize=True, database=None)
EVERY_GROUP = ("gdpo", "mo_grpo", "grpo", "dr_grpo", "rloo", "dvao", "corr_grpo", "grpo, batch")


def group_of(columns):
    """Two equal groups, padded with masked samples, one program for all."""
    values = np.full((2, GROUP, 3), np.nan, np.float32)
    values[:, : len(columns[0])] = np.stack(columns, axis=1)
    return reward_batch(values, ("a", "b", "c"))


def test_terms_that_cancel_to_a_small_difference_are_signal():
    b = [-1000, -999.9995, -999.999]
    found = run_all(group_of([[1000.0] * 3, b, [0.0] * 3]))
    for name in EVERY_GROUP:
        assert found[name][0, 2] > 0 > found[name][0, 0], name
    np.testing.assert_allclose(found["grpo"][0, :3], [-1, 0, 1], atol=0.07)
    np.testing.assert_allclose(found["dr_grpo"][0, :3], [-0.0005, 0, 0.0005], atol=4e-5)


@QUICK
@given(
    st.lists(st.integers(-30, 30), min_size=3, max_size=GROUP).filter(lambda x: len(set(x)) > 1),
    st.tuples(*[st.floats(0.1, 3e4).flatmap(lambda x: st.sampled_from([x, -x]))] * 3),
    st.sampled_from([9, 40, 4000]),
    st.booleans(),
)
def test_differences_above_the_resolution_survive_any_offset(steps, offsets, units, balanced):
    """Against float64 on the same numbers: float32 loses the last places of the sum, no more."""
    a, b, c = offsets
    if balanced:
        c = -a - b
    steps = np.array(steps, np.float64)
    rise = (steps - steps.min()) / np.ptp(steps)
    size = np.finfo(np.float32).eps * abs(b) * units
    same = np.ones(len(steps))
    group = group_of([a * same, b + np.sign(b) * size * (rise - 1), c * same])
    exact = group.values[0, : len(steps)].astype(np.float64)
    if np.ptp(exact[:, 1]) <= 8 * np.finfo(np.float32).eps * np.max(np.abs(exact[:, 1])):
        return  # rounding has taken it to the resolution
    found = run_all(group)
    total = exact.sum(axis=1)[None, :, None]
    last_place = np.finfo(np.float32).eps * np.abs(total).max()
    lost = last_place / np.ptp(exact[:, 1])
    z = plain.z_scores(exact[None, :, :, None]).sum(axis=2)[0, :, 0]
    np.testing.assert_allclose(found["mo_grpo"][0, : len(steps)], z, atol=1e-5)
    centred = plain.leave_one_out(total)[0, :, 0]
    # The reference adds in float64, whose last place at the offset is a part of its own error.
    rounding = np.finfo(np.float64).eps * np.abs(total).max()
    np.testing.assert_allclose(
        found["rloo"][0, : len(steps)],
        centred,
        rtol=1e-5,
        atol=1e-6 * np.ptp(exact[:, 1]) + 2 * rounding,
    )
    if lost < 0.2:
        normal = plain.normalise(total)[0, :, 0]
        np.testing.assert_allclose(
            found["grpo"][0, : len(steps)], normal, atol=1e-5 + 4 * lost * np.abs(normal).max()
        )
        for name in EVERY_GROUP:
            assert np.any(found[name][0] != 0), name


@QUICK
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=GROUP),
    st.sampled_from([0.0, 0.3, 1.0, 7.77, 1e3, 1.2e5]),
    st.sampled_from([1.0, -0.1, 3.3]),
)
@example([0.0, 1.0, 0.9375], 1.2e5, 1.0)
def test_a_reward_and_its_complement_cancel_at_any_offset(numbers, constant, scale):
    a = scale * np.array(numbers)

    def known_to_both(values):
        """A complement whose differences are below its own resolution is no complement any more."""
        resolution = 9 * np.finfo(np.float32).eps * (constant + abs(scale))
        return np.ptp(values) == 0 or np.ptp(values) > resolution

    assume(known_to_both(a))
    found = run_all(group_of([a, constant - a, 0.5 + 0 * a]))
    names = [*EVERY_GROUP, "reinforce_pp, group"]
    # Without one sample, the others may lie closer together than all do.
    if all(known_to_both(np.delete(a, n)) for n in range(len(a))):
        names.append("leave one out")
    for name in names:
        np.testing.assert_array_equal(found[name], 0, err_msg=name)


# Numbers at the door.


def test_differences_that_float32_cannot_hold_are_named():
    values = np.zeros((2, 3, 2))
    values[1, :, 1] = 1e9 + np.arange(3)
    with pytest.warns(UserWarning, match=r"'noisy'.*subtract a constant"):
        reward_batch(values, NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values[1, :, 1] = 0.73 + 1e-7 * np.arange(3)
        assert reward_batch(values, NAMES).values.dtype == np.float32
        reward_batch([[[1e300, 10**9], [0.5, None]]], NAMES)
        values[1, :, 1] = 1e3 + np.arange(3)
        reward_batch(values, NAMES)


@pytest.mark.parametrize("dtype", [float, np.float32, np.float16, object])
def test_a_further_reward_fits_any_batch(dtype):
    rewards = reward_batch(np.array([[[0.5], [1.0]]], dtype), ("a",))
    for column in (np.array([[1e5, np.nan]]), jnp.array([[1e5, jnp.nan]]), np.array([[100000, 3]])):
        joined = append_reward(rewards, "kl", column)
        assert joined.values.dtype == np.float32
        np.testing.assert_array_equal(joined.values[0, :, 0], [0.5, 1.0])
        assert joined.values[0, 0, 1] == 1e5 and joined.valid[0, 0, 1]
    with pytest.raises((UserError, TypeError)):
        append_reward(rewards, "kl", np.zeros((1, 1)))
