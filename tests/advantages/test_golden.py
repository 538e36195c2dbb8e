"""The worked numbers of GDPO and of its implementations, to 1e-6, in float32 and in float64.

Rows are completions. The values follow from the formulas by hand; the paper's own are among them.
"""

import dataclasses

import jax
import numpy as np
import pytest

from gdpo_jax.advantages import (
    CONVENTIONS,
    batch_normalize,
    chain,
    combine,
    condition,
    dr_grpo,
    gdpo,
    group_center,
    group_normalize,
    grpo,
    leave_one_out_normalize,
    per_sample_diagnostics,
    reward_batch,
    rloo,
    weigh,
)

n = np.nan
TOLERANCE = 1e-6  # the expected values are printed to six decimals, half a unit is theirs
TWO_GROUPS = np.array(
    [[[0, 1], [0, 2], [1, 2], [1, 3]], [[0, 0], [1, 1], [1, 2], [0, 3]]], np.float64
)
DECOUPLED_SUM = chain(group_normalize(), weigh(), combine())
NEMO_WHOLE_GROUP = dataclasses.replace(CONVENTIONS["nemo"], leave_one_out=False)

GDPO = {name: gdpo(convention=name) for name in CONVENTIONS}

ESTIMATORS = {
    "sum of z": (
        DECOUPLED_SUM,
        "-2.090770 -0.866025 0.866025 2.090770 -2.027920 0.478727 1.253324 0.295870",
    ),
    "gdpo paper": (
        GDPO["paper"],
        "-1.372546 -0.568527 0.568527 1.372546 -1.331287 0.314274 0.822780 0.194232",
    ),
    "gdpo ms_swift": (
        GDPO["ms_swift"],
        "-1.372546 -0.568527 0.568527 1.372546 -1.331287 0.314274 0.822780 0.194232",
    ),
    "gdpo nemo, whole group": (
        gdpo(convention=NEMO_WHOLE_GROUP),
        "-1.372546 -0.568527 0.568527 1.372546 -1.331287 0.314274 0.822780 0.194232",
    ),
    "gdpo trl": (
        GDPO["trl"],
        "-1.372451 -0.568471 0.568471 1.372451 -1.331228 0.314219 0.822723 0.194286",
    ),
    "gdpo nvlabs": (
        GDPO["nvlabs"],
        "-1.372451 -0.568471 0.568471 1.372451 -1.331228 0.314219 0.822723 0.194286",
    ),
    "gdpo weights": (
        gdpo((1, 0.25)),
        "-1.137353 -0.840272 0.840272 1.137353 -1.122108 0.746327 0.934217 -0.558436",
    ),
    "gdpo weights, trl": (
        gdpo((1, 0.25), convention="trl"),
        "-1.137249 -0.840184 0.840184 1.137249 -1.122018 0.746240 0.934129 -0.558351",
    ),
    "grpo": (grpo(), "-1.161895 -0.387298 0.387298 1.161895 -1.414214 0 0.707107 0.707107"),
    "dr_grpo": (dr_grpo(), "-1.5 -0.5 0.5 1.5 -2 0 1 1"),
    "rloo": (rloo(), "-2 -0.666667 0.666667 2 -2.666667 0 1.333333 1.333333"),
    "grpo batch": (
        grpo(scale="batch"),
        "-1.170284 -0.390095 0.390095 1.170284 -1.560379 0 0.780189 0.780189",
    ),
    "leave one out": (
        chain(leave_one_out_normalize(eps=1e-6), combine()),
        "-3.464096 -1.154699 1.154699 3.464096 -3.154697 0.718263 1.591134 0.845299",
    ),
    "grpo none": (grpo(scale="none"), "-1.5 -0.5 0.5 1.5 -2 0 1 1"),
}


def close(actual, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(np.ravel(actual), np.ravel(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_two_groups_of_four(name, advantages_of):
    transform, expected = ESTIMATORS[name]
    actual = advantages_of(transform, TWO_GROUPS, pad=False)
    assert actual.dtype == np.float32
    close(actual, [float(x) for x in expected.split()])


@pytest.mark.parametrize("name", ["gdpo trl", "grpo batch"])
def test_float64_stays_float64(name, advantages_of):
    transform, expected = ESTIMATORS[name]
    with jax.enable_x64(True):
        actual = advantages_of(transform, TWO_GROUPS, dtype=np.float64)
    assert actual.dtype == np.float64
    close(actual, [float(x) for x in expected.split()], tolerance=5.1e-7)


def test_z_scores_of_two_groups():
    rewards = reward_batch(TWO_GROUPS.astype(np.float32), ("a", "b"))
    transform = gdpo((1.0, 0.25))
    diagnose = jax.jit(per_sample_diagnostics, static_argnums=0)
    found = diagnose(transform, rewards, transform.init(("a", "b")))
    z1 = [-0.866025, -0.866025, 0.866025, 0.866025, -0.866025, 0.866025, 0.866025, -0.866025]
    z2 = [-1.224745, 0, 0, 1.224745, -1.161895, -0.387298, 0.387298, 1.161895]
    close(found["z"][:, :, 0], z1)
    close(found["z"][:, :, 1], z2)
    close(found["components"][:, :, 1], 0.25 * np.array(z2))
    close(found["sum"], np.array(z1) + 0.25 * np.array(z2))


def test_scaling_all_weights_changes_nothing_without_eps(advantages_of):
    small = advantages_of(gdpo((1, 0.25)), TWO_GROUPS)
    large = advantages_of(gdpo((300, 75)), TWO_GROUPS)
    close(small, large)


def test_scale_differences_survive_until_the_batch_norm_of_one_group(advantages_of):
    weak, strong = [[[0, 0], [0, 1]]], [[[0, 0], [1, 1]]]
    close(advantages_of(DECOUPLED_SUM, weak), [-0.707107, 0.707107])
    close(advantages_of(DECOUPLED_SUM, strong), [-1.414214, 1.414214])
    close(advantages_of(GDPO["paper"], weak), [-0.707107, 0.707107])
    close(advantages_of(GDPO["paper"], strong), [-0.707107, 0.707107])
    both = advantages_of(GDPO["paper"], weak + strong)
    close(both, [-0.547723, 0.547723, -1.095445, 1.095445])


@pytest.mark.parametrize("convention", ["paper", "trl", "nemo"])
def test_a_reward_and_its_complement_cancel_exactly(convention, advantages_of):
    # The paper's section 3.1 says the first of these is not zero; with equal weights it is.
    rewards = np.full((4, 9, 2), n)
    rewards[0, :3] = [[1, 0], [1, 0], [0, 1]]
    rewards[1, :4] = [[0, 3], [1, 2], [2, 1], [3, 0]]
    rewards[2, :2] = [[1, 0], [0, 1]]
    rewards[3] = [[1, 0]] * 2 + [[0, 1]] + [[1, 0]] * 6
    assert np.all(advantages_of(GDPO[convention], rewards) == 0)
    assert np.all(advantages_of(GDPO[convention], rewards / 7) == 0)


def test_three_rewards_of_constant_sum_do_not_cancel(advantages_of):
    rewards = [[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]]
    expected = [-0.133975, 0.133975, 0.133975, -0.133975]
    close(advantages_of(DECOUPLED_SUM, rewards), expected)


@pytest.mark.parametrize("convention", ["nemo", "paper"])
def test_a_constant_component_is_silent(convention, advantages_of):
    rewards = [[[1, 1, 1], [1, -1, 0]]]
    close(advantages_of(GDPO[convention], rewards), [0.707107, -0.707107])


MISSING = [
    ("trl", [[1, 2], [n, 3], [3, n], [4, 5]], "-1.217179 -0.135242 0.135242 1.217179"),
    ("nvlabs", [[1, 2], [n, 3], [3, n], [4, 5]], "-0.513855 -0.557768 -0.426027 1.497651"),
    ("trl", [[1, 0], [0, 1], [n, n], [1, 1]], "-0.577293 -0.577293 0 1.154585"),
    ("ms_swift", [[1, 0], [0, 1], [n, n], [1, 1]], "-0.707107 -0.707107 0 1.414214"),
    ("nvlabs", [[1, 0], [0, 1], [n, n], [1, 1]], "0 0 -1.224658 1.224658"),
    ("trl", [[1, n], [0, n], [1, n], [0, 1]], "0.865939 -0.865939 0.865939 -0.865939"),
]


@pytest.mark.parametrize(("convention", "rewards", "expected"), MISSING)
def test_missing_rewards(convention, rewards, expected, advantages_of):
    masked = convention not in ("nvlabs", "ms_swift")
    actual = advantages_of(GDPO[convention], [rewards], pad=masked)
    close(actual, [float(x) for x in expected.split()])


@pytest.mark.parametrize(
    ("convention", "plain", "conditioned"),
    [
        (
            "paper",
            "1.485776 -0.398113 -0.689551 -0.398113",
            "1.332111 -0.769095 0.206078 -0.769095",
        ),
        ("trl", "1.485620 -0.398089 -0.689442 -0.398089", "1.332031 -0.769054 0.206077 -0.769054"),
    ],
)
def test_zero_filled_condition(convention, plain, conditioned, advantages_of):
    rewards = [[[1, 1], [0, 1], [1, 0], [0, 1]]]  # correct, length
    transform = GDPO[convention]
    gated = chain(condition("r1", on="r0", at_least=1.0), transform)
    actual = advantages_of(transform, rewards)
    close(actual, [float(x) for x in plain.split()])
    actual = advantages_of(gated, rewards)
    close(actual, [float(x) for x in conditioned.split()])


def test_subset_normalised_condition(advantages_of):
    rewards = [[[1, 0.9], [0, 0.2], [1, 0.5], [0, 0.4]]]  # outcome, process
    gate = condition("r1", on="r0", at_least=1.0, otherwise="mask")
    actual = advantages_of(chain(gate, DECOUPLED_SUM), rewards)
    close(actual, [1.573132, -0.866025, 0.158919, -0.866025])


def test_a_masked_member_leaves_the_group_of_the_others(advantages_of):
    rewards = [[[1, 2], [0, 1], [7, n], [1, 4]]]
    valid = [[True, True, False, True]]
    whole = advantages_of(DECOUPLED_SUM, rewards, sample_valid=valid)
    close(whole, [0.359132, -2.027572, 0, 1.668440])
    three = advantages_of(DECOUPLED_SUM, [[[1, 2], [0, 1], [1, 4]]])
    close(whole[:, [0, 1, 3]], three)
    whitened = advantages_of(GDPO["paper"], rewards, sample_valid=valid)
    close(whitened, [0.191640, -1.081952, 0, 0.890312])


def test_a_masked_member_leaves_the_batch(advantages_of):
    rewards = [[[1, 2], [0, 1], [n, n], [1, 4]], [[0, 1], [1, 1], [0, 0], [1, 3]]]
    expected = "0.212402 -1.199166 0 0.986765 -0.629698 0.394688 -1.099719 1.334729"
    actual = advantages_of(GDPO["paper"], rewards)
    close(actual, [float(x) for x in expected.split()])


def test_masked_grpo(advantages_of):
    rewards, valid = [[[1], [1], [0], [0]]], [[True, False, True, True]]
    centred = advantages_of(dr_grpo(), rewards, sample_valid=valid)
    close(centred, [2 / 3, 0, -1 / 3, -1 / 3])
    normal = advantages_of(grpo(), rewards, sample_valid=valid)
    close(normal, [1.154701, 0, -0.577350, -0.577350])


@pytest.mark.parametrize(("convention", "size"), [("paper", 1.936492), ("trl", 1.936059)])
def test_one_reward_is_rescaled_by_the_share_of_live_groups(convention, size, advantages_of):
    rewards = np.array([[0, 1, 0, 1], [1] * 4, [0] * 4, [1] * 4], np.float64)[:, :, None]
    live = np.array([-1, 1, -1, 1])
    close(advantages_of(grpo(), rewards), [*(0.866025 * live), *[0] * 12])
    actual = advantages_of(GDPO[convention], rewards)
    close(actual, [*(size * live), *[0] * 12])
    left_out = advantages_of(gdpo(dead_groups="leave_out"), rewards)
    close(left_out, [*(0.866025 * live), *[0] * 12])


def test_one_reward_under_nvlabs_is_plain_grpo(advantages_of):
    rewards = np.array([[0, 1, 0, 1], [1, 1, 1, 1]], np.float64)[:, :, None]
    actual = advantages_of(GDPO["nvlabs"], rewards, pad=False)
    close(actual, advantages_of(grpo(eps=1e-4), rewards))


def test_rank_level(advantages_of):
    relevance = [[1, 0, 0], [0, 0, 1]]
    safety = [[0, -0.630930, 0], [0, 0, 0]]
    rewards = np.stack([relevance, safety], axis=1)[None]  # [1, 2, K=2, R=3]
    pre = np.array([[0.707107, -0.707107, -0.707107], [-0.707107, 0.707107, 0.707107]])
    close(advantages_of(DECOUPLED_SUM, rewards), pre)
    close(advantages_of(GDPO["paper"], rewards), np.sign(pre) * 0.912871)


def test_whitening_over_tokens_is_not_over_sequences(advantages_of):
    sums = np.array([1.4142, -1.4142, 0.7071, -0.7071])
    lengths = np.array([1000.0, 10, 10, 100])
    by_sequence = advantages_of(
        chain(combine(), batch_normalize()),
        sums.reshape(1, 4, 1),
    )
    close(by_sequence, [1.0954, -1.0954, 0.5477, -0.5477], tolerance=5e-5)
    by_token = chain(combine(), batch_normalize(over="tokens", variance_eps=1e-8))
    actual = advantages_of(by_token, sums.reshape(1, 4, 1), lengths=lengths[None])
    close(actual, [0.3373, -3.9799, -0.7420, -2.9006], tolerance=5e-5)
    tokens = np.repeat(sums, lengths.astype(int))
    exact = (sums - tokens.mean()) / np.sqrt(tokens.var(ddof=1) + 1e-8)
    close(actual, exact, tolerance=4e-6)


def test_leave_one_out_does_not_divide_by_float_noise(advantages_of):
    rewards = np.array([0] + [0.95] * 7, np.float32)
    peers = rewards[1:]
    square_of_mean, mean_of_squares = peers.mean() ** 2, (peers * peers).mean()
    noise = np.sqrt((mean_of_squares - square_of_mean) * np.float32(7 / 6))
    np.testing.assert_allclose(-peers.mean() / (noise + 1e-6), -2075.39, rtol=1e-5)

    transform = chain(leave_one_out_normalize(eps=1e-6), combine())
    actual = advantages_of(transform, rewards.reshape(1, 8, 1))
    others = np.array([0] + [0.95] * 6)
    expected = (0.95 - others.mean()) / (others.std(ddof=1) + 1e-6)
    close(actual, [-0.95] + [expected] * 7)


def test_verl_keeps_the_raw_score_of_a_group_of_one(advantages_of):
    rewards = np.array([[[0.3, 2.0]], [[0.1, 1.0]]])
    lone = chain(group_normalize(eps=1e-6, lone="raw"), combine())
    close(advantages_of(lone, rewards), [2.3, 1.1])
    verl = advantages_of(GDPO["verl"], rewards, lengths=[[3.0], [1.0]])
    tokens = np.array([2.3, 2.3, 2.3, 1.1])
    close(verl, (np.array([2.3, 1.1]) - tokens.mean()) / tokens.std(ddof=1))
    assert np.all(advantages_of(GDPO["paper"], rewards) == 0)


EQUAL_CASES = [("paper", 7), ("paper", 9), ("paper", 12), ("leave one out", 9)]
EQUAL_CASES += [("grpo", 9), ("dr_grpo", 9), ("rloo", 9), ("grpo batch", 9)]


@pytest.mark.parametrize(("name", "size"), EQUAL_CASES)
def test_equal_rewards_are_exactly_zero(name, size, advantages_of):
    transform = GDPO[name] if name in GDPO else ESTIMATORS[name][0]
    for value in (0.95, 100.3):
        rewards = np.full((3, size, 2), value)
        rewards[1, 0, 0] += 1  # one live group, so that the batch norm divides by something
        actual = advantages_of(transform, rewards, pad=False)
        assert np.all(actual[[0, 2]] == 0)
        assert np.all(actual[1] != 0)


def test_equal_sums_of_unequal_terms_are_exactly_zero(advantages_of):
    # 0.1 + 0.2 is not 0.3 in floating point; neither may become an advantage of 0.7.
    rewards = np.array([[[0.1, 0.2], [0.0, 0.3], [0.3, 0.0], [0.2, 0.1]]])
    for transform in (grpo(), dr_grpo(), rloo(), chain(combine(), group_center(scale="batch"))):
        assert np.all(advantages_of(transform, rewards) == 0)
