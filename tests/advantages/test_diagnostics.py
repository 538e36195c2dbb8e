"""Each metric against numbers worked out by hand."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gdpo_jax.advantages import compute_advantages, gdpo, grpo, record, reward_batch
from gdpo_jax.advantages.diagnostics import DISTINCT_TOLERANCE, advantage_metrics

FAST_COMPILE = {"xla_backend_optimization_level": 0}
n = np.nan
NAMES = ("safe", "good")
VALUES = np.array(
    [
        [[1, 0], [1, 0], [0, 1], [0, 1]],  # conflict and cancellation in all four
        [[1, 5], [1, 1], [1, 1], [1, 1]],  # safe is degenerate
        [[0, 2], [0, 2], [0, 2], [n, n]],  # both are; one sample is missing
    ],
    np.float32,
)
REWARDS = reward_batch(VALUES, NAMES)


GDPO, GRPO = gdpo(), grpo()
COMPUTE = jax.jit(compute_advantages, static_argnums=0, compiler_options=FAST_COMPILE)


def metrics_of(transform, rewards=REWARDS):
    advantages, _, metrics = COMPUTE(transform, rewards, transform.init(rewards.names))
    return advantages, {name: float(value) for name, value in metrics.items()}


def test_metrics_of_a_small_batch():
    advantages, found = metrics_of(GDPO)
    safe, good = (VALUES[:, :, k][~np.isnan(VALUES[:, :, k])] for k in range(2))
    raw_sums = np.array([1] * 4 + [6, 2, 2, 2] + [2] * 3)
    sums = np.array([0] * 4 + [1.5, -0.5, -0.5, -0.5] + [0] * 3)
    sd = sums.std(ddof=1)
    expected = {
        "reward/safe/mean": safe.mean(),
        "reward/safe/std": safe.std(ddof=1),
        "reward/safe/min": 0,
        "reward/safe/max": 1,
        "reward/safe/missing_fraction": 1 / 12,
        "reward/safe/zero_variance_fraction": 2 / 3,
        "reward/good/mean": good.mean(),
        "reward/good/std": good.std(ddof=1),
        "reward/good/min": 0,
        "reward/good/max": 5,
        "reward/good/missing_fraction": 1 / 12,
        "reward/good/zero_variance_fraction": 1 / 3,
        "zero_variance_fraction": 1 / 3,
        "reward_sum/mean": raw_sums.mean(),
        "reward_sum/std": raw_sums.std(ddof=1),
        "weight/safe": 1,
        "weight/good": 1,
        "advantage/share/safe": 4 * 0.8660254 / (8 * 0.8660254 + 3),
        "advantage/share/good": (4 * 0.8660254 + 3) / (8 * 0.8660254 + 3),
        "advantage/conflict_rate": 4 / 11,
        "advantage/cancellation_rate": 4 / 11,
        "advantage/batch_mean": 0,
        "advantage/batch_std": sd,
        "advantage/abs_mean": 3 / sd / 11,
        "advantage/min": -0.5 / sd,
        "advantage/max": 1.5 / sd,
        "advantage/nonzero_fraction": 4 / 11,
        "advantage/valid_fraction": 11 / 12,
        "advantage/distinct": 3,
        "advantage/distinct_per_group": (1 + 2 + 1) / 3,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
    assert not bool(advantages.valid[2, 3])


def test_shares_under_grpo_show_the_loud_reward():
    loud = reward_batch(VALUES * np.array([1, 100], np.float32), NAMES)
    _, found = metrics_of(GRPO, loud)
    assert found["advantage/share/good"] > 0.98
    assert found["advantage/cancellation_rate"] == 0
    _, found = metrics_of(GDPO, loud)
    np.testing.assert_allclose(found["advantage/share/good"], 0.651, atol=1e-3)


def test_an_empty_batch_has_finite_metrics():
    _, found = metrics_of(GDPO, reward_batch(np.full((3, 4, 2), n, np.float32), NAMES))
    assert all(np.isfinite(value) for value in found.values())
    assert found["reward/safe/missing_fraction"] == 1
    assert found["advantage/distinct"] == 0


METRICS_OF = jax.jit(advantage_metrics, compiler_options=FAST_COMPILE)
SHAPE = (3, 5)


@settings(deadline=None, derandomize=True, database=None)
@given(
    # Steps on both sides of the tolerance, which is relative to the largest value.
    hnp.arrays(
        np.float32, SHAPE, elements=st.sampled_from([-1, 0, 0.25, 0.25 + 2e-6, 0.25 + 6e-6, 1])
    ),
    hnp.arrays(bool, SHAPE),
)
def test_distinct_advantages_are_runs_of_sorted_ones(values, valid):
    def runs(values):
        steps = np.diff(np.sort(values)) > tolerance
        return 1 + steps.sum() if len(values) else 0

    tolerance = np.float32(DISTINCT_TOLERANCE) * np.abs(values, where=valid, out=0 * values).max()
    found = {name: float(value) for name, value in METRICS_OF(values, valid).items()}
    assert found["advantage/distinct"] == runs(values[valid])
    groups = [runs(row[kept]) for row, kept in zip(values, valid) if kept.any()]
    mean = np.mean(groups) if groups else 0
    np.testing.assert_allclose(found["advantage/distinct_per_group"], mean, rtol=1e-6)


def test_names_are_structure_and_not_leaves():
    assert len(jax.tree.leaves(REWARDS)) == 2
    names = jax.tree.map(lambda leaf: None, REWARDS).names  # unflattening checks no types
    assert names == NAMES
    other = reward_batch(VALUES, ("safe", "other"))
    assert jax.tree.structure(other) != jax.tree.structure(REWARDS)

    @record(static=("label",))
    class Small:
        label: str
        value: float

    paths = jax.tree_util.tree_leaves_with_path(Small(label="x", value=1.0))
    assert [jax.tree_util.keystr(path) for path, _ in paths] == [".value"]
