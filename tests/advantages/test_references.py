"""Every estimator against plain NumPy on random rewards, some missing, with and without ranks."""

import jax
import numpy as np
import plain_numpy as plain
import pytest

from gdpo_jax.advantages import (
    ESTIMATORS,
    batch_center,
    batch_normalize,
    chain,
    clip,
    combine,
    compute_advantages,
    condition,
    constrained_grpo,
    corpo,
    corr_grpo,
    divide_by_correlation,
    dr_grpo,
    drop_conflicts,
    dvao,
    gd2po,
    gdpo,
    group_center,
    group_normalize,
    grpo,
    lagrangian,
    leave_one_out,
    mo_grpo,
    papo,
    rank_grpo,
    reinforce_pp,
    reward_batch,
    rloo,
    sa_mrpo,
    saw,
    weigh,
    weigh_by_group_deviation,
    weigh_by_saturation,
    weigh_by_variation,
)

NAMES = ("a", "b", "c")
W = (1.0, 0.5, 2.0)
BOUNDS = {"a": (-4.0, 4.0), "b": (-1.0, 6.0), "c": (0.0, 1.0)}
GATED = {
    how: chain(condition("b", on="c", at_least=1.0, otherwise=how), gdpo(W))
    for how in ("zero", "mask")
}


def summed(v):
    return plain.weighted_sum(plain.filled(v), W)


def zero_filled(v):
    return plain.weighted_sum(v, W)


def gated(how):
    return lambda v, n: plain.whiten(
        plain.weighted_sum(plain.z_scores(plain.condition(v, 1, 2, 1.0, how)), W)
    )


def batch_scaled(v, n):
    return plain.centre(summed(v)) / np.nanstd(summed(v), ddof=1)


CASES = {
    "gdpo": (gdpo(W), lambda v, n: plain.whiten(plain.weighted_sum(plain.z_scores(v), W))),
    "grpo": (grpo(W), lambda v, n: plain.normalise(summed(v))),
    "grpo, eps": (grpo(W, eps=1e-4), lambda v, n: plain.normalise(summed(v), eps=1e-4)),
    "grpo, batch": (grpo(W, scale="batch"), batch_scaled),
    "grpo, none": (grpo(W, scale="none"), lambda v, n: plain.centre(summed(v))),
    "rank_grpo": (rank_grpo(W), lambda v, n: plain.normalise(summed(v))),
    "dr_grpo": (dr_grpo(W), lambda v, n: plain.centre(summed(v))),
    "grpo, zero": (grpo(W, missing="zero"), lambda v, n: plain.normalise(zero_filled(v))),
    "rloo": (rloo(W), lambda v, n: plain.weighted_sum(plain.leave_one_out_each(v), W)),
    "rloo, zero": (rloo(W, missing="zero"), lambda v, n: plain.leave_one_out(zero_filled(v))),
    "reinforce_pp": (reinforce_pp(W), lambda v, n: plain.whiten(summed(v))),
    "reinforce_pp, group": (
        reinforce_pp(W, baseline="group"),
        lambda v, n: plain.whiten(plain.centre(summed(v))),
    ),
    "reinforce_pp, tokens": (
        reinforce_pp(W, over="tokens"),
        lambda v, n: plain.whiten(summed(v), lengths=n),
    ),
    "mo_grpo": (mo_grpo(W), lambda v, n: plain.weighted_sum(plain.z_scores(v), W)),
    "clipped": (
        chain(mo_grpo(W), clip(0.7)),
        lambda v, n: np.clip(plain.weighted_sum(plain.z_scores(v), W), -0.7, 0.7),
    ),
    "conditioned, zero": (GATED["zero"], gated("zero")),
    "conditioned, mask": (GATED["mask"], gated("mask")),
    "papo": (
        papo("c", "a", W),
        lambda v, n: plain.weighted_sum(plain.z_scores(plain.condition(v, 0, 2, 1.0, "mask")), W),
    ),
    "gd2po, hard": (gd2po(W), lambda v, n: plain.gd2po(v, W, mode="hard")),
    "gd2po, snr": (
        gd2po(W, mode="snr", tau=0.6, keep_ratio=False, over="tokens"),
        lambda v, n: plain.gd2po(v, W, mode="snr", tau=0.6, keep_ratio=False, lengths=n),
    ),
    "sa_mrpo": (
        sa_mrpo(BOUNDS, W, gamma=0.5),
        lambda v, n: plain.sa_mrpo(v, np.array(W), [BOUNDS[name] for name in NAMES], 0.5),
    ),
    "saw": (saw(W), lambda v, n: plain.saw(v, np.array(W))),
    "dvao": (dvao(W), lambda v, n: plain.dvao(v, W)),
    "corr_grpo": (corr_grpo(W), lambda v, n: plain.corr_grpo(v, W)),
    "constrained_grpo": (
        chain(
            group_normalize(),
            lagrangian({"c": 0.25}, step_size=0.4, weights={"a": 2.0, "b": 1.0}, initial=0.3),
            combine(),
        ),
        lambda v, n: plain.weighted_sum(plain.z_scores(v), (2.0, 1.0, -0.3)),
    ),
    "corpo": (corpo(0.8, W), lambda v, n: plain.corpo(summed(v), 0.8)),
}


def make_values(ranks):
    rng = np.random.default_rng(17)
    values = np.stack(
        [
            rng.normal(size=(6, 5, ranks)),
            rng.normal(2.0, 1.0, size=(6, 5, ranks)),
            rng.integers(0, 2, size=(6, 5, ranks)).astype(float),
        ],
        axis=2,
    ).astype(np.float32)
    values[0, :, 2] = 1.0  # a dead component
    values[1, 2] = np.nan  # a sample without any reward
    values[2, 1:, 0] = np.nan  # one valid value in a column
    values[3, 0, 1] = np.nan
    values[4] = values[4, :1]  # a dead group
    return values


LENGTHS = np.arange(30, dtype=np.float32).reshape(6, 5) % 7 + 1


@jax.jit
def _all(rewards, lengths):
    return {
        name: compute_advantages(t, rewards, t.init(NAMES), lengths=lengths)[0].values
        for name, (t, _) in CASES.items()
    }


@pytest.fixture(scope="module")
def found():
    whole = reward_batch(make_values(1)[..., 0], NAMES)
    ranked = reward_batch(make_values(3), NAMES)
    per_rank = np.repeat(LENGTHS[:, :, None], 3, axis=2)
    return {1: _all(whole, LENGTHS), 3: _all(ranked, per_rank)}


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
def test_against_plain_numpy(name, ranks, found):
    expected = CASES[name][1](make_values(ranks).astype(np.float64), LENGTHS[:, :, None])
    actual = np.reshape(found[ranks][name], expected.shape)
    np.testing.assert_allclose(actual, np.nan_to_num(expected), rtol=2e-6, atol=2e-6)
    assert np.any(expected > 0.1)


def test_no_estimator_is_left_out():
    assert set(ESTIMATORS) <= {name.split(",")[0] for name in CASES}


COMPOSITIONS = {
    "gdpo": (gdpo(W), chain(group_normalize(), weigh(W), combine(), batch_normalize())),
    "gdpo, trl": (
        gdpo(W, convention="trl"),
        chain(group_normalize(eps=1e-4), weigh(W), combine(), batch_normalize(eps=1e-4)),
    ),
    "grpo": (grpo(W), chain(weigh(W), combine(), group_normalize())),
    "grpo, batch": (
        grpo(W, scale="batch"),
        chain(weigh(W), combine(), group_center(scale="batch")),
    ),
    "rank_grpo": (rank_grpo(W), chain(weigh(W), combine(), group_normalize())),
    "dr_grpo": (dr_grpo(W), chain(weigh(W), combine(), group_center())),
    "rloo": (rloo(W), chain(weigh(W), leave_one_out(), combine())),
    "reinforce_pp": (
        reinforce_pp(W),
        chain(weigh(W), batch_center(), combine(), batch_normalize()),
    ),
    "reinforce_pp, group": (
        reinforce_pp(W, baseline="group"),
        chain(weigh(W), combine(), group_center(), batch_normalize()),
    ),
    "mo_grpo": (mo_grpo(W), chain(group_normalize(), weigh(W), combine())),
    "papo": (
        papo("c", "a", W),
        chain(
            condition("a", on="c", at_least=1.0, otherwise="mask"),
            group_normalize(),
            weigh(W),
            combine(),
        ),
    ),
    "gd2po": (
        gd2po(W, mode="snr", tau=0.6),
        chain(
            group_normalize(),
            weigh(W),
            drop_conflicts("snr", tau=0.6, keep_ratio=True),
            combine(),
            batch_normalize(),
        ),
    ),
    "sa_mrpo": (
        sa_mrpo(BOUNDS, W),
        chain(group_normalize(), weigh_by_saturation(BOUNDS, W), combine(), batch_normalize()),
    ),
    "saw": (
        saw(W),
        chain(group_normalize(), weigh_by_variation(W), combine(), batch_normalize()),
    ),
    "dvao": (dvao(W), chain(weigh_by_group_deviation(W), combine())),
    "corr_grpo": (corr_grpo(W), chain(weigh(W), divide_by_correlation(), combine())),
    "constrained_grpo": (
        constrained_grpo({"c": 0.2}, step_size=0.1, weights=W[:2]),
        chain(group_normalize(), lagrangian({"c": 0.2}, step_size=0.1, weights=W[:2]), combine()),
    ),
    "corpo": (corpo(0.8, W), chain(weigh(W), combine(), group_center(at_least=0.8))),
}


def test_each_preset_is_its_composition():
    @jax.jit
    def both(rewards):
        return {
            name: [compute_advantages(t, rewards, t.init(NAMES))[0] for t in pair]
            for name, pair in COMPOSITIONS.items()
        }

    for name, (preset, written_out) in both(reward_batch(make_values(3), NAMES)).items():
        np.testing.assert_array_equal(preset.values, written_out.values, err_msg=name)
        np.testing.assert_array_equal(preset.valid, written_out.valid, err_msg=name)
    assert set(ESTIMATORS) == {name.split(",")[0] for name in COMPOSITIONS}


def test_relations_of_a_single_reward():
    values = make_values(1)[:, :, :1, 0]
    transforms = {
        "grpo": grpo(),
        "mo_grpo": mo_grpo(),
        "gdpo": gdpo(),
        "saw": saw((3.0,)),
        "dr_grpo": dr_grpo(),
        "rloo": rloo(),
        "dvao": dvao((5.0,)),
        "corr_grpo": corr_grpo(),
        "gd2po": gd2po(),
        "nvlabs": gdpo(convention="nvlabs"),
        "grpo, eps": grpo(eps=1e-4),
    }

    @jax.jit
    def run(rewards):
        return {
            name: compute_advantages(t, rewards, t.init(("a",)))[0].values
            for name, t in transforms.items()
        }

    full = np.nan_to_num(values)  # nvlabs lets missing rewards vote as zeros
    complete = {name: np.asarray(x) for name, x in run(reward_batch(full, ("a",))).items()}
    np.testing.assert_allclose(complete["nvlabs"], complete["grpo, eps"], atol=1e-6)
    found = {
        name: np.asarray(x, np.float64) for name, x in run(reward_batch(values, ("a",))).items()
    }
    valid = ~np.isnan(values[:, :, 0])
    n = valid.sum(axis=1, keepdims=True)
    whitened = found["grpo"] / found["grpo"][valid].std(ddof=1)
    np.testing.assert_allclose(found["mo_grpo"], found["grpo"], atol=1e-6)
    for name in ("gdpo", "gd2po", "saw"):
        np.testing.assert_allclose(found[name], whitened, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(
        found["rloo"], found["dr_grpo"] * n / np.maximum(n - 1, 1), atol=1e-6
    )
    correction = np.sqrt(n / np.maximum(n - 1, 1))  # ddof 0 instead of 1
    np.testing.assert_allclose(found["dvao"], found["grpo"] * correction, atol=2e-6)
    np.testing.assert_allclose(found["corr_grpo"], found["dr_grpo"], rtol=1e-6, atol=1e-6)
