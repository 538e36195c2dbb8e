"""Further reward terms, masks and filters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.advantages import (
    advantage_varies,
    any_reward_varies,
    append_reward,
    batch_normalize,
    chain,
    combine,
    compute_advantages,
    drop_silent_groups,
    gdpo,
    group_normalize,
    grpo,
    mask_samples,
    mo_grpo,
    overlong_penalty,
    per_sample_diagnostics,
    reward_batch,
    reward_varies,
    subtract_penalty,
    weigh,
    weighted_sum_varies,
)
from gdpo_jax.errors import UserError

FAST_COMPILE = {"xla_backend_optimization_level": 0}
NAMES = ("a", "b")
GROUPS = reward_batch(
    np.array(
        [
            [[1, 0], [0, 1]],  # the sum is constant, and with equal weights z cancels too
            [[3, 0], [0, 3]],  # the same in other units
            [[1, 1], [0, 1]],  # only a varies
            [[1, 1], [1, 1]],  # nothing varies
            [[1, np.nan], [1, 0]],  # one valid value of b is no variance, and the sums are equal
        ],
        np.float32,
    ),
    NAMES,
)


def run(transform, rewards, **options):
    def advantages_alone(rewards, state, options):
        return compute_advantages(transform, rewards, state, **options)[0]

    compute = jax.jit(advantages_alone, compiler_options=FAST_COMPILE)
    return compute(rewards, transform.init(rewards.names), options)


def test_dynamic_sampling_depends_on_the_quantity():
    signals = {
        "a": lambda r: reward_varies(r, "a"),
        "b": lambda r: reward_varies(r, "b"),
        "any": any_reward_varies,
        "sum": lambda r: weighted_sum_varies(r, (1.0, 1.0)),
        "unequal sum": lambda r: weighted_sum_varies(r, (1.0, 2.0)),
    }
    found = jax.jit(lambda r: {name: signal(r) for name, signal in signals.items()})(GROUPS)
    np.testing.assert_array_equal(found["a"], [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(found["b"], [1, 1, 0, 0, 0])
    np.testing.assert_array_equal(found["any"], [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(found["sum"], [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(found["unequal sum"], [1, 1, 1, 0, 0])
    transform, signal = gdpo(), jax.jit(advantage_varies, static_argnums=0)
    for weights, expected in [((1.0, 1.0), [0, 0, 1, 0, 0]), ((1.0, 0.5), [1, 1, 1, 0, 0])]:
        state = gdpo(weights).init(NAMES)
        np.testing.assert_array_equal(signal(transform, GROUPS, state), expected)
    with pytest.raises(UserError, match=r"'c'.*'a', 'b'"):
        reward_varies(GROUPS, "c")


def test_equal_sums_that_differ_by_rounding_carry_no_signal():
    values = np.array([[[0.1, 0.2], [0.0, 0.3], [0.3, 0.0]]], np.float32)  # 0.1 + 0.2 is not 0.3
    rewards, plain, by_token = reward_batch(values, NAMES), grpo(), gdpo(convention="verl")

    @jax.jit
    def signals(rewards, lengths):
        by_sum = advantage_varies(plain, rewards, plain.init(NAMES))
        by_lengths = advantage_varies(by_token, rewards, by_token.init(NAMES), lengths=lengths)
        return by_sum, by_lengths, weighted_sum_varies(rewards), any_reward_varies(rewards)

    *sums, anything = signals(rewards, np.ones((1, 3), np.float32))
    assert not np.any(sums)
    assert np.all(anything)


UNEQUAL = (1.0, 0.5)


@pytest.mark.parametrize(
    ("stages", "keep", "share"),
    [
        ([drop_silent_groups("a"), group_normalize(), weigh(UNEQUAL), combine()], "a", 2 / 5),
        ([drop_silent_groups("b"), group_normalize(), weigh(UNEQUAL), combine()], "b", 3 / 5),
        ([drop_silent_groups(), group_normalize(), weigh(UNEQUAL), combine()], "any", 2 / 5),
        ([weigh(), combine(), drop_silent_groups(), group_normalize()], "sum", 4 / 5),
        ([group_normalize(), weigh(), combine(), drop_silent_groups()], "advantage", 4 / 5),
    ],
)
def test_silent_groups_dropped_inside_a_chain(stages, keep, share):
    expected = {
        "a": [1, 1, 1, 0, 0],
        "b": [1, 1, 0, 0, 0],
        "any": [1, 1, 1, 0, 0],
        "sum": [0, 0, 1, 0, 0],
        "advantage": [0, 0, 1, 0, 0],
    }[keep]
    transform = chain(*stages, batch_normalize())
    advantages, _, metrics = jax.jit(
        lambda r, s: compute_advantages(transform, r, s), compiler_options=FAST_COMPILE
    )(GROUPS, transform.init(NAMES))
    np.testing.assert_array_equal(advantages.valid.all(axis=1), expected)
    np.testing.assert_allclose(metrics["advantage/dropped_groups"], share, rtol=1e-6)
    live = np.asarray(advantages.values)[np.array(expected, bool)]
    np.testing.assert_allclose([live.mean(), live.std(ddof=1)], [0, 1], atol=1e-6)


def test_a_masked_sample_stays_masked_when_a_reward_is_appended():
    finished = np.array([[True, False]] * 5)
    kl = np.array([[0.1, 0.3]] * 5, np.float32)
    joined = append_reward(mask_samples(GROUPS, finished), "kl", kl)
    np.testing.assert_array_equal(joined.valid[:, :, 2], finished)
    again = mask_samples(joined, np.array([1, 1, 1, 1, 0], bool))
    np.testing.assert_array_equal(again.sample_valid[:, 0], [1, 1, 1, 1, 0])


def test_equal_penalties_keep_equal_sums_equal():
    values = np.array([[[0.1, 0.2], [0.0, 0.3], [0.3, 0.0]]], np.float32)
    transform = chain(weigh(), combine(), subtract_penalty(0.7), group_normalize())
    found = run(transform, reward_batch(values, NAMES), penalty=np.full((1, 3), 0.37, np.float32))
    np.testing.assert_array_equal(found.values, np.zeros((1, 3)))


def test_filtered_groups_do_not_vote_in_the_batch():
    keep = np.array([1, 1, 1, 0, 0], bool)
    transform = gdpo((1.0, 0.5))
    filtered = run(transform, mask_samples(GROUPS, keep))
    alone = run(transform, jax.tree.map(lambda x: x[:3], GROUPS))
    np.testing.assert_allclose(filtered.values[:3], alone.values, atol=1e-6)
    np.testing.assert_array_equal(filtered.values[3:], np.zeros((2, 2)))
    finished = np.array([[True, True]] * 4 + [[True, False]])
    masked = mask_samples(GROUPS, finished)
    np.testing.assert_array_equal(masked.valid[4], [[True, False], [False, False]])


def test_overlong_penalty():
    lengths = jnp.array([6000.0, 7000, 8000, 8100])
    found = overlong_penalty(lengths, max_length=8000, buffer=2000)
    np.testing.assert_allclose(found, [0, -0.5, -1, -1.05], atol=1e-7)
    with pytest.raises(UserError, match="buffer=0"):
        overlong_penalty(lengths, max_length=8000, buffer=0)


def test_kl_in_the_reward_decoupled_or_after_the_sum():
    kl = np.array([[0.1, 0.3]] * 5, np.float32)
    decoupled = append_reward(GROUPS, "kl", -kl)
    assert decoupled.names == ("a", "b", "kl")
    transform = mo_grpo((1.0, 1.0, 0.5))
    actual = run(transform, decoupled).values
    np.testing.assert_allclose(actual[3], [0.5 * 0.707107, -0.5 * 0.707107], atol=1e-6)
    after = chain(group_normalize(), weigh(), combine(), subtract_penalty(2.0))
    actual = run(after, GROUPS, penalty=kl).values
    np.testing.assert_allclose(actual[3], [-0.2, -0.6], atol=1e-6)
    whitened = run(chain(after, batch_normalize()), GROUPS, penalty=kl).values
    raw = np.asarray(actual, np.float64)
    np.testing.assert_allclose(whitened, (raw - raw.mean()) / raw.std(ddof=1), atol=2e-6)
    with pytest.raises(UserError, match="penalty="):
        run(after, GROUPS)
    with pytest.raises(UserError, match="'a' already"):
        append_reward(GROUPS, "a", kl)


def test_a_reward_per_sample_joins_rewards_per_item():
    items = reward_batch(np.zeros((2, 3, 1, 4), np.float32), ("relevance",))
    joined = append_reward(items, "length", np.array([[1, np.nan, 3]] * 2, np.float32))
    assert joined.values.shape == (2, 3, 2, 4)
    np.testing.assert_array_equal(joined.values[0, 2, 1], [3, 3, 3, 3])
    np.testing.assert_array_equal(joined.valid[0, :, 1, 0], [True, False, True])


def test_per_sample_diagnostics_hold_every_step_of_the_way():
    transform = gdpo((1.0, 0.5))
    diagnose = jax.jit(per_sample_diagnostics, static_argnums=0, compiler_options=FAST_COMPILE)
    found = diagnose(transform, GROUPS, transform.init(NAMES))
    found = {name: np.asarray(x) for name, x in found.items()}
    assert set(found) == {"z", "components", "sum", "sum_valid", "advantages"}
    np.testing.assert_allclose(
        found["z"][0], [[0.707107, -0.707107], [-0.707107, 0.707107]], atol=1e-6
    )
    np.testing.assert_allclose(
        found["components"][0], found["z"][0] * np.array([1, 0.5]), atol=1e-6
    )
    np.testing.assert_allclose(found["sum"][0], [0.353553, -0.353553], atol=1e-6)
    assert bool(found["sum_valid"].all())
