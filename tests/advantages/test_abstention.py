"""A reward that is missing for a sample neither helps nor hurts it, in any estimator."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gdpo_jax.advantages import (
    ESTIMATORS,
    RewardBatch,
    chain,
    combine,
    compute_advantages,
    constrained_grpo,
    gdpo,
    group_center,
    group_normalize,
    grpo,
    leave_one_out,
    rloo,
    saw,
    weigh,
)

FAST_COMPILE = {"xla_backend_optimization_level": 0}
B, G, NAMES = 3, 5, ("a", "b")
W = (1.0, 0.5)
SPECIAL = {
    "papo": lambda: ESTIMATORS["papo"]("a", "b", W, at_least=-100.0),
    "sa_mrpo": lambda: ESTIMATORS["sa_mrpo"](dict.fromkeys(NAMES, (-100.0, 200.0)), W, gamma=0.0),
    "constrained_grpo": lambda: ESTIMATORS["constrained_grpo"]({"b": 0.2}, step_size=0.1),
    "corpo": lambda: ESTIMATORS["corpo"](-100.0, W),
}
EVERY = {name: SPECIAL.get(name, lambda make=make: make(W))() for name, make in ESTIMATORS.items()}
EVERY |= {
    "reinforce_pp, group": ESTIMATORS["reinforce_pp"](W, baseline="group"),
    "grpo by hand": chain(weigh(W), combine(), group_normalize()),
    "dr_grpo by hand": chain(weigh(W), combine(), group_center()),
    "rloo by hand": chain(weigh(W), combine(), leave_one_out()),
    "grpo, zero": grpo(W, missing="zero"),
    "rloo, zero": rloo(W, missing="zero"),
}


def _all(values, valid):
    rewards = RewardBatch(values=values, valid=valid, names=NAMES)
    return {
        name: compute_advantages(t, rewards, t.init(NAMES))[0].values for name, t in EVERY.items()
    }


_compiled = jax.jit(_all, compiler_options=FAST_COMPILE)
AS_ZERO = ("grpo, zero", "rloo, zero")
# The coefficient of variation is relative to the mean: a constant is meant to change it.
SEES_OFFSETS = (*AS_ZERO, "saw")


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(
    hnp.arrays(np.float32, (B, G, 2), elements=st.integers(-4, 4).map(float)),
    hnp.arrays(np.bool_, (B, G, 2)),
    st.tuples(st.integers(0, G - 1), st.integers(0, 1)),
    st.integers(-50, 50).map(float),
)
def test_an_abstention_is_no_opinion(values, valid, place, constant):
    # The first group: equal samples, one of which lacks one reward.
    values[0], valid[0] = [1.0, 2.0], True
    valid[0, place[0], place[1]] = False
    plain = _compiled(values, valid)
    moved = _compiled(values + np.array([0, constant], np.float32), valid)
    for name, x in plain.items():
        if name not in AS_ZERO:
            assert len(np.unique(x[0])) == 1, name
        if name not in SEES_OFFSETS:
            np.testing.assert_allclose(moved[name], x, atol=2e-5, err_msg=name)


def test_peers_count_a_missing_reward_as_zero():
    values = np.ones((B, G, 2), np.float32)
    valid = np.ones((B, G, 2), bool)
    valid[0, 4, 1] = False
    found = _compiled(values, valid)
    for name in AS_ZERO:
        assert found[name][0, 4] < 0 < found[name][0, 0], name


def test_rloo_compares_each_reward_with_the_others_that_have_it():
    values, valid = np.zeros((B, G, 2), np.float32), np.zeros((B, G, 2), bool)
    values[0, :4], valid[0, :4] = [[1, 7], [0, 7], [0, 7], [0, 7]], True
    valid[0, 3, 0] = False
    np.testing.assert_allclose(_compiled(values, valid)["rloo"][0], [1, -0.5, -0.5, 0, 0])


def test_what_nobody_measured_moves_no_state():
    """A constraint whose judge is away keeps its multiplier, a schedule its step, SAW the weights
    of the others.
    """
    rng = np.random.default_rng(0)
    values, seen = rng.uniform(1, 2, (1, 3, 2)).astype(np.float32), np.ones((1, 3, 2), bool)
    constrained = constrained_grpo({"b": 0.25}, step_size=0.5)
    scheduled = gdpo(lambda step: jnp.stack([step, step]).astype(jnp.float32))

    def run(transform, valid, state):
        rewards = RewardBatch(values=values, valid=valid, names=NAMES)
        return compute_advantages(transform, rewards, state)[1:]

    @jax.jit
    def all_of(valid, multipliers, step):
        dual, schedule = constrained.init(NAMES), scheduled.init(NAMES)
        dual = (dual[0], dual[1]._replace(multipliers=multipliers), dual[2])
        schedule = (schedule[0], schedule[1]._replace(step=step), *schedule[2:])
        metrics = run(saw(), valid, saw().init(NAMES))[1]
        return (
            run(constrained, valid, dual)[0][1].multipliers,
            run(scheduled, valid, schedule)[0][1].step,
            [metrics[f"weight/{name}"] for name in NAMES],
        )

    start = np.array([0, 1.0], np.float32), np.int32(3)
    moved, step, _ = all_of(seen, *start)
    np.testing.assert_allclose(moved, [0, 1 + 0.5 * (values[..., 1].mean() - 0.25)], rtol=1e-6)
    assert step == 4
    away = seen & np.array([True, False])
    kept, step, weights = all_of(away, *start)
    np.testing.assert_array_equal(kept, start[0])
    np.testing.assert_allclose(weights, [1, 0], atol=1e-6)  # as if a were the only reward
    assert step == 4
    kept, step, _ = all_of(away & False, *start)
    np.testing.assert_array_equal(kept, start[0])
    assert step == 3
