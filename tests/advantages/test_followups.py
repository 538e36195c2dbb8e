"""The estimators that followed GDPO, on the worked example of two groups of four, to 1e-6."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdpo_jax.advantages import (
    ESTIMATORS,
    RewardBatch,
    batch_normalize,
    chain,
    clip,
    combine,
    compute_advantages,
    constrained_grpo,
    corpo,
    corr_grpo,
    divide_by_correlation,
    drop_conflicts,
    drop_silent_groups,
    dvao,
    gd2po,
    gdpo,
    group_normalize,
    mo_grpo,
    papo,
    reinforce_pp,
    reward_batch,
    sa_mrpo,
    saw,
    weigh,
    weigh_by_saturation,
)
from gdpo_jax.errors import UserError

FAST_COMPILE = {"xla_backend_optimization_level": 0}
TWO_GROUPS = np.array(
    [[[0, 1], [0, 2], [1, 2], [1, 3]], [[0, 0], [1, 1], [1, 2], [0, 3]]], np.float32
)
BOUNDS = {"a": (0.0, 1.0), "b": (0.0, 3.0)}
EXPECTED = {
    "mo_grpo": (
        mo_grpo(),
        "-2.090770 -0.866025 0.866025 2.090770 -2.027920 0.478727 1.253324 0.295870",
    ),
    "gd2po hard": (
        gd2po(),
        "-1.328079 -0.525324 0.609942 1.412697 -0.622288 0 0.453052 0",
    ),
    "gd2po snr": (
        gd2po(mode="snr", tau=0.2),
        "-1.369604 -0.554957 0.597128 1.411775 -0.990578 0.259907 0.646328 0",
    ),
    "sa_mrpo": (
        sa_mrpo(BOUNDS, gamma=0.5),
        "-1.361146 -0.594129 0.594129 1.361146 -1.321785 0.351577 0.836681 0.133527",
    ),
    "sa_mrpo, gamma 0": (
        sa_mrpo(BOUNDS, gamma=0.0),
        "-1.372546 -0.568527 0.568527 1.372546 -1.331287 0.314274 0.822780 0.194232",
    ),
    "saw": (
        saw(),
        "-1.279788 -0.717989 0.717989 1.279788 -1.250958 0.540333 0.895646 -0.185020",
    ),
    "dvao": (dvao(), "-1.242641 -0.414214 0.414214 1.242641 -1.236068 0 0.618034 0.618034"),
    "corpo": (corpo(2.25), "-1.5 -0.5 0.5 1.5 -2.25 -0.25 0.75 0.75"),
    "clipped": (chain(mo_grpo(), clip(1.0)), "-1 -0.866025 0.866025 1 -1 0.478727 1 0.295870"),
}


@jax.jit
def _all(rewards):
    return {
        name: compute_advantages(t, rewards, t.init(rewards.names))[0].values
        for name, (t, _) in (EXPECTED | FREE).items()
    }


FREE = {
    "corr_grpo": (corr_grpo(), None),
    "reinforce": (reinforce_pp(), None),
    "reinforce, group": (reinforce_pp(baseline="group"), None),
}


@pytest.fixture(scope="module")
def found():
    return jax.tree.map(np.asarray, _all(reward_batch(TWO_GROUPS, ("a", "b"))))


@pytest.mark.parametrize("name", EXPECTED)
def test_worked_numbers(name, found):
    expected = [float(x) for x in EXPECTED[name][1].split()]
    np.testing.assert_allclose(np.ravel(found[name]), expected, rtol=0, atol=1e-6)


def test_corr_grpo_first_group(found):
    expected = [-0.811794, -0.270598, 0.270598, 0.811794]
    np.testing.assert_allclose(found["corr_grpo"][0], expected, rtol=0, atol=1e-6)
    for group, actual in zip(TWO_GROUPS, found["corr_grpo"], strict=True):
        centred = (group - group.mean(0)).sum(1)
        root = np.sqrt(np.corrcoef(group.T).sum() + 1e-6)
        np.testing.assert_allclose(actual, centred / root, atol=1e-6)


def test_reinforce_pp_whitens_the_sum(found):
    total = TWO_GROUPS.sum(2).astype(np.float64)
    expected = (total - total.mean()) / total.std(ddof=1)
    np.testing.assert_allclose(found["reinforce"], expected, atol=1e-6)
    centred = total - total.mean(1, keepdims=True)
    np.testing.assert_allclose(found["reinforce, group"], centred / centred.std(ddof=1), atol=1e-6)


@pytest.mark.parametrize("size", [1e30, 1e-30, 0.0])
def test_no_nan_for_huge_tiny_and_missing_rewards(size):
    rng = np.random.default_rng(5)
    signs = rng.choice([-1.0, 0.0, 1.0], size=TWO_GROUPS.shape)
    values = (signs * size).astype(np.float32)
    values[1, 0] = np.nan
    values[0, 2, 1] = np.nan
    for name, advantages in _all(reward_batch(values, ("a", "b"))).items():
        assert np.all(np.isfinite(advantages)), name
        assert advantages[1, 0] == 0, name


COMPUTE = jax.jit(compute_advantages, static_argnums=0, compiler_options=FAST_COMPILE)


def run(transform, rewards, state=None, **options):
    state = transform.init(rewards.names) if state is None else state
    return COMPUTE(transform, rewards, state, **options)


def test_gd2po_reports_what_it_dropped_and_saw_its_weights():
    rewards = reward_batch(TWO_GROUPS, ("a", "b"))
    advantages, _, metrics = run(gd2po(), rewards)
    np.testing.assert_allclose(metrics["advantage/dropped_conflicts"], 2 / 8)
    np.testing.assert_array_equal(np.flatnonzero(~np.ravel(advantages.valid)), [5, 7])
    _, _, metrics = run(saw(), rewards)
    np.testing.assert_allclose(metrics["weight/a"], 1.287595, atol=1e-6)
    np.testing.assert_allclose(metrics["weight/b"], 0.712405, atol=1e-6)


def test_papo_normalises_the_process_over_correct_answers(advantages_of):
    rewards = [[[1, 0.9], [0, 0.2], [1, 0.5], [0, 0.4]]]
    actual = advantages_of(papo("r0", "r1"), rewards)
    np.testing.assert_allclose(actual[0], [1.573132, -0.866025, 0.158919, -0.866025], atol=1e-6)


def test_correlations_of_opposed_rewards_are_a_failure_case_and_finite(advantages_of):
    opposed = np.array([[[0, 2], [1, 0]]], np.float32)
    transform = chain(divide_by_correlation(eps=1e-6), combine())
    actual = advantages_of(transform, opposed)
    np.testing.assert_allclose(np.abs(actual), 500, rtol=1e-3)


def test_multipliers_rise_while_the_cost_is_violated_and_fall_when_it_is_not():
    transform = constrained_grpo({"unsafe": 0.25}, step_size=0.4, weights={"help": 2.0})
    names = ("help", "unsafe")
    violated = reward_batch(np.array([[[1, 1], [0, 1], [1, 0], [0, 0]]], np.float32), names)
    state = transform.init(names)
    plain, state, metrics = run(transform, violated, state)
    z = np.array([1, -1, 1, -1]) * 0.866025
    cost = np.array([1, 1, -1, -1]) * 0.866025
    np.testing.assert_allclose(plain.values[0], 2 * z, atol=1e-6)
    assert metrics["constraint/unsafe/multiplier"] == 0
    np.testing.assert_allclose(metrics["constraint/unsafe/rate"], 0.5)
    np.testing.assert_allclose(state[1].multipliers, [0, 0.4 * 0.25], atol=1e-7)
    second, state, _ = run(transform, violated, state)
    np.testing.assert_allclose(second.values[0], 2 * z - 0.1 * cost, atol=1e-6)
    np.testing.assert_allclose(state[1].multipliers, [0, 0.2], atol=1e-7)
    safe = RewardBatch(
        values=violated.values * np.array([1, 0], np.float32), valid=violated.valid, names=names
    )
    for _ in range(3):
        _, state, _ = run(transform, safe, state)
    np.testing.assert_array_equal(state[1].multipliers, [0, 0])


def counted(transform, traces):
    """A jitted run that returns advantages alone and notes every trace."""

    @jax.jit
    def compute(rewards, state):
        traces.append(transform)
        advantages, state, metrics = compute_advantages(transform, rewards, state)
        return advantages.values, state, metrics["weight/b"]

    return compute


@pytest.mark.parametrize(
    "schedule",
    [
        lambda step: jnp.stack([jnp.float32(1), 1 - 0.25 * step.astype(jnp.float32)]),
        {"a": 1.0, "b": optax.linear_schedule(1.0, 0.0, 4)},
        lambda step: {"a": 1.0, "b": optax.linear_schedule(1.0, 0.0, 4)(step)},
    ],
)
def test_schedules_live_in_the_state_and_do_not_recompile(schedule):
    transform = chain(group_normalize(), weigh(schedule), combine(), batch_normalize())
    rewards, state, traces = reward_batch(TWO_GROUPS, ("a", "b")), transform.init(("a", "b")), []
    compute = counted(transform, traces)
    for step in range(4):
        values, state, weight = compute(rewards, state)
        np.testing.assert_allclose(weight, 1 - 0.25 * step)
    np.testing.assert_allclose(values[0, 0], -1.137353, atol=1e-6)
    assert state[1].step == 4
    assert len(traces) == 1


def test_a_schedule_fits_wherever_weights_do():
    """At step t a scheduled estimator is the one with the weights of step t."""
    families = {
        "sa_mrpo": lambda w: sa_mrpo(BOUNDS, w),
        "saw": saw,
        "dvao": dvao,
        "constrained": lambda w: chain(
            constrained_grpo({"c": 0.2}, step_size=1e-9, weights=w), batch_normalize()
        ),
    }

    costs = np.concatenate([TWO_GROUPS, TWO_GROUPS[:, :, :1]], axis=2)
    for name, make in families.items():
        constrained = name == "constrained"
        batch = reward_batch(*(costs, ("a", "b", "c")) if constrained else (TWO_GROUPS, ("a", "b")))
        pairs = scheduled_and_fixed(make, batch)
        for actual, expected in pairs:
            np.testing.assert_allclose(actual, expected, atol=1e-6, err_msg=name)
        assert np.max(np.abs(pairs[0][0] - pairs[2][0])) > 0.05, name


def scheduled_and_fixed(make, rewards):
    """Advantages of three steps with a schedule, each beside those with the weights of the step."""
    scheduled = make({"a": 1.0, "b": optax.linear_schedule(1.0, 0.0, 4)})
    fixed = [make((1.0, 1 - 0.25 * step)) for step in range(3)]

    @jax.jit
    def both(rewards, state, fixed_state):
        actual, state, _ = compute_advantages(scheduled, rewards, state)
        # Weights are in the state, so that one program computes with those of every step.
        expected, _, _ = compute_advantages(fixed[0], rewards, fixed_state)
        return actual.values, expected.values, state

    state, pairs = scheduled.init(rewards.names), []
    for transform in fixed:
        actual, expected, state = both(rewards, state, transform.init(rewards.names))
        pairs.append((actual, expected))
    return pairs


def test_new_weights_do_not_recompile():
    transform, traces = gdpo((1.0, 1.0)), []
    compute = counted(transform, traces)
    rewards, state = reward_batch(TWO_GROUPS, ("a", "b")), transform.init(("a", "b"))
    compute(rewards, state)
    state = jax.tree.map(lambda w: w * jnp.array([1.0, 0.25]), state)
    values, _, _ = compute(rewards, state)
    np.testing.assert_allclose(values[0, 0], -1.137353, atol=1e-6)
    assert len(traces) == 1


def drop_silent(on):
    return run(chain(drop_silent_groups(on), gdpo()), reward_batch(TWO_GROUPS, ("a", "b")))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gdpo((1, 2, 3)).init(("a", "b")), "'a', 'b'"),
        (lambda: gdpo({"a": 1, "c": 2}).init(("a", "b")), r"unknown: \['c'\].*without.*'b'"),
        (lambda: gdpo(convention="torch"), "trl"),
        (lambda: weigh_by_saturation({"a": (1.0, 1.0)}), "low < high"),
        (lambda: sa_mrpo({"a": (0.0, 1.0)}).init(("a", "b")), "'a', 'b'"),
        (lambda: constrained_grpo({"c": 0.1}, step_size=0.1).init(("a",)), "'c'"),
        (lambda: constrained_grpo({"c": 0.1}, step_size=0.0), "step_size=0.0"),
        (lambda: constrained_grpo({"a": 0.1}, step_size=1.0).init(("a",)), "at least one reward"),
        (lambda: gdpo((1.0, float("nan"))).init(("a", "b")), r"finite, got \[1.0, nan\]"),
        (lambda: drop_silent("x"), "'x'.*'a', 'b'"),
        (lambda: clip(0.0), "positive"),
        (lambda: drop_conflicts("soft"), "snr"),
        (lambda: run(group_normalize(), reward_batch(TWO_GROUPS, ("a", "b"))), "combine"),
        (lambda: run(chain(combine(), gdpo()), reward_batch(TWO_GROUPS, ("a", "b"))), "before"),
        (lambda: run(gdpo(convention="verl"), reward_batch(TWO_GROUPS, ("a", "b"))), "lengths"),
        (lambda: run(papo("a", "x"), reward_batch(TWO_GROUPS, ("a", "b"))), "'x'.*'a', 'b'"),
        (lambda: run(gdpo(), reward_batch(TWO_GROUPS, ("a", "b")), state=()), "init"),
        (lambda: reward_batch(TWO_GROUPS, ("a",)), "1 names"),
        (lambda: reward_batch(TWO_GROUPS / 0.0 + 1, ("a", "b")), "infinite at prompt 0, sample 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
def test_a_mistake_is_named_with_the_legal_values(make, message):
    # Under run-time type checks the literal types refuse a wrong name first, with the same list.
    with pytest.raises((UserError, TypeError), match=message):
        make()


def test_every_estimator_has_a_name():
    assert all(ESTIMATORS[name].__name__ == name for name in ESTIMATORS)
    assert {"gdpo", "grpo", "dr_grpo", "rloo", "rank_grpo"} <= set(ESTIMATORS)
