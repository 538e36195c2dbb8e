"""Each peer's convention on worked numbers, to 1e-6, and against plain NumPy for any rewards."""

import dataclasses

import jax
import numpy as np
import plain_numpy as plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gdpo_jax.advantages import (
    CONVENTIONS,
    Convention,
    compute_advantages,
    gdpo,
    mask_samples,
    reward_batch,
)
from gdpo_jax.errors import UserError

n = np.nan
# What spec sheets and code of the peers say, in the words of `plain_numpy.peer`.
PEERS = {
    "paper": {},
    "trl": {"group_eps": 1e-4, "batch_eps": 1e-4},
    "verl": {"group_eps": 1e-6, "variance_eps": 1e-8, "lone_is_raw": True, "by_token": True},
    "nemo": {"group_eps": 1e-6, "leave_one_out": True},
    "ms_swift": {"group_eps": 1e-8, "batch_eps": 1e-8, "empty_row_is_zero": True},
    "nvlabs": {
        "group_eps": 1e-4,
        "batch_eps": 1e-4,
        "missing_is_zero": True,
        "one_reward_is_grpo": True,
    },
}
INPUTS = {  # rewards, and which samples are in
    "two groups": ([[[0, 1], [0, 2], [1, 2], [1, 3]], [[0, 0], [1, 1], [1, 2], [0, 3]]], None),
    "one group": ([[[0, 1], [0, 2], [1, 2], [1, 3]]], None),
    "missing": ([[[1, 2], [n, 3], [3, n], [4, 5]]], None),
    "a row without rewards": ([[[1, 0], [0, 1], [n, n], [1, 1]]], None),
    "a masked sample": (
        [[[1, 2], [0, 1], [7, 9], [1, 4]], [[0, 1], [1, 1], [0, 0], [1, 3]]],
        [[1, 1, 0, 1], [1, 1, 1, 1]],
    ),
    "groups of one": ([[[0.3, 2.0]], [[0.1, 1.0]], [[0.5, 0.0]]], None),
    "one reward": ([[[0], [1], [0], [1]], [[1], [1], [1], [1]]], None),
}
GOLDEN = {
    "two groups": {
        "paper": "-1.372546 -0.568527 0.568527 1.372546 -1.331287 0.314274 0.822780 0.194232",
        "trl": "-1.372451 -0.568471 0.568471 1.372451 -1.331228 0.314219 0.822723 0.194286",
        "verl": "-2.131454 -1.143133 0.254563 1.242884 -2.080737 -0.057972 0.567098 -0.205529",
        "nemo": "-1.442286 -0.480762 0.480762 1.442286 -1.313467 0.299051 0.662473 0.351943",
        "ms_swift": "-1.372546 -0.568527 0.568527 1.372546 -1.331287 0.314274 0.822780 0.194232",
        "nvlabs": "-1.372451 -0.568471 0.568471 1.372451 -1.331228 0.314219 0.822723 0.194286",
    },
    "one group": {
        "paper": "-1.131517 -0.468690 0.468690 1.131517",
        "trl": "-1.131460 -0.468652 0.468652 1.131460",
        "verl": "-1.857801 -1.046516 0.100813 0.912098",
        "nemo": "-1.161895 -0.387298 0.387298 1.161895",
        "ms_swift": "-1.131517 -0.468690 0.468690 1.131517",
        "nvlabs": "-1.131460 -0.468652 0.468652 1.131460",
    },
    "missing": {
        "paper": "-1.217254 -0.135250 0.135250 1.217254",
        "trl": "-1.217179 -0.135242 0.135242 1.217179",
        "verl": "-1.943999 -0.626034 -0.296542 1.021423",
        "nemo": "-1.223359 -0.058255 0.058255 1.223359",
        "ms_swift": "-1.217254 -0.135250 0.135250 1.217254",
        "nvlabs": "-0.513855 -0.557768 -0.426027 1.497651",
    },
    "a row without rewards": {
        "paper": "-0.577350 -0.577350 0 1.154701",
        "trl": "-0.577293 -0.577293 0 1.154585",
        "verl": "-1.069045 -1.069045 0 0.801784",
        "nemo": "-0.577350 -0.577350 0 1.154701",
        "ms_swift": "-0.707107 -0.707107 0 1.414214",
        "nvlabs": "0 0 -1.224658 1.224658",
    },
    "a masked sample": {
        "paper": "0.212402 -1.199166 0 0.986765 -0.629698 0.394688 -1.099719 1.334729",
        "trl": "0.212364 -1.199091 0 0.986727 -0.629641 0.394634 -1.099654 1.334661",
        "verl": "-0.019753 -1.375079 0 0.723757 -0.828301 0.155270 -1.279594 1.057857",
        "nemo": "-0.053504 -0.983873 0 1.162401 -0.648143 0.096444 -1.043153 1.469828",
        "ms_swift": "0.212402 -1.199166 0 0.986765 -0.629698 0.394688 -1.099719 1.334729",
        "nvlabs": "0.212364 -1.199091 0 0.986727 -0.629641 0.394634 -1.099654 1.334661",
    },
    "groups of one": {
        "paper": "0 0 0",
        "trl": "0 0 0",
        "verl": "1.853364 0.142566 -0.712832",
        "nemo": "0 0 0",
        "ms_swift": "0 0 0",
        "nvlabs": "0 0 0",
    },
    "one reward": {
        "paper": "-1.322876 1.322876 -1.322876 1.322876 0 0 0 0",
        "trl": "-1.322674 1.322674 -1.322674 1.322674 0 0 0 0",
        "verl": "-1.531639 1.253159 -1.531639 1.253159 -0.139240 -0.139240 -0.139240 -0.139240",
        "nemo": "-1.322876 1.322876 -1.322876 1.322876 0 0 0 0",
        "ms_swift": "-1.322876 1.322876 -1.322876 1.322876 0 0 0 0",
        "nvlabs": "-0.865875 0.865875 -0.865875 0.865875 0 0 0 0",
    },
}
TRANSFORMS = {name: gdpo(convention=name) for name in CONVENTIONS}
FAST_COMPILE = {"xla_backend_optimization_level": 0}


def _each(rewards, lengths):
    return {
        name: compute_advantages(t, rewards, t.init(rewards.names), lengths=lengths)[0].values
        for name, t in TRANSFORMS.items()
    }


_compiled = jax.jit(_each, compiler_options=FAST_COMPILE)


def lengths_of(values):
    prompts, samples = values.shape[:2]
    return np.arange(prompts * samples, dtype=np.float32).reshape(prompts, samples) % 4 + 1


B, G, K = 3, 4, 2


def library(values, members=None, *, room=(B, G)):
    """All conventions on one batch, padded to `room` with masked samples: one program for all."""
    prompts, samples = values.shape[:2]
    members = np.ones((prompts, samples), bool) if members is None else members
    margin = [(0, max(0, room[0] - prompts)), (0, max(0, room[1] - samples))]
    values = np.pad(values, [*margin, (0, 0)], constant_values=5.0)
    names = tuple(f"r{k}" for k in range(values.shape[2]))
    rewards = reward_batch(values, names, sample_valid=np.pad(members, margin))
    lengths = np.pad(lengths_of(members), margin, constant_values=3.0)
    found = _compiled(rewards, lengths.astype(values.dtype))
    return {name: np.asarray(x)[:prompts, :samples] for name, x in found.items()}


def reference(name, values, members=None):
    options = dict(PEERS[name])
    lengths = lengths_of(values)[:, :, None] if options.pop("by_token", False) else None
    members = np.ones(values.shape[:2], bool) if members is None else members
    wide = values.astype(np.float64)[..., None]
    return np.nan_to_num(plain.peer(wide, members, 1.0, lengths=lengths, **options))[..., 0]


@pytest.mark.parametrize("case", INPUTS)
def test_worked_numbers(case):
    values, members = INPUTS[case]
    values = np.array(values, np.float64)
    members = None if members is None else np.array(members, bool)
    found = library(values.astype(np.float32), members)
    assert GOLDEN[case].keys() == PEERS.keys() == CONVENTIONS.keys() == found.keys()
    for name, text in GOLDEN[case].items():
        expected = np.array([float(x) for x in text.split()]).reshape(values.shape[:2])
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1.2e-6, err_msg=name)
        by_hand = reference(name, values, members)
        np.testing.assert_allclose(by_hand, expected, rtol=0, atol=5.1e-7, err_msg=name)


@pytest.mark.parametrize(("size", "value"), [(9, 0.95), (12, 0.95), (7, 100.3), (7, 0.95)])
def test_equal_rewards_in_float32_are_exactly_zero(size, value):
    values = np.full((3, size, 2), value, np.float32)
    for name, x in library(values).items():
        np.testing.assert_array_equal(x, 0, err_msg=name)
    values[1, 0, 0] += 1.0  # now the batch norm divides by something
    for name, x in library(values).items():
        dead = x[[0, 2]]
        # Means over tokens or of leave-one-out scores are not zero: dead groups move together.
        if name in ("verl", "nemo"):
            assert len(np.unique(dead)) == 1
        else:
            np.testing.assert_array_equal(dead, 0, err_msg=name)
        assert np.all(x[1] != 0), name


QUICK = settings(max_examples=30, deadline=None, derandomize=True, database=None)
numbers = hnp.arrays(
    np.float64, (B, G, K), elements=st.integers(-3, 3).map(float) | st.just(np.nan)
)
samples = hnp.arrays(np.bool_, (B, G))


@QUICK
@given(numbers, samples)
def test_any_rewards_against_plain_numpy(values, members):
    with jax.enable_x64(True):  # an eps lets sums of 1e-4 through, of which float32 has 3 digits
        found = library(values, members)
    for name, x in found.items():
        expected = reference(name, values, members)
        np.testing.assert_allclose(x, expected, atol=1e-7, err_msg=name)


@QUICK
@given(
    numbers.map(np.float32),
    samples,
    hnp.arrays(np.float32, (B, G, K), elements=st.floats(-9, 9, width=32) | st.just(n)),
)
def test_masked_samples_never_change_the_others(values, members, junk):
    clean = library(values, members)
    dirty = library(np.where(members[:, :, None], values, junk), members)
    for name, x in clean.items():
        np.testing.assert_array_equal(dirty[name], x, err_msg=name)
        assert np.all(x[~members] == 0), name


@QUICK
@given(numbers.map(np.float32), samples)
def test_padding_changes_nothing(values, members):
    clean, padded = library(values, members), library(values, members, room=(B + 1, G + 2))
    for name, x in clean.items():
        # Sums that an eps alone keeps from cancelling are whitened float noise in any layout.
        loose = 2e-3 if "eps" in str(PEERS[name]) else 5e-6
        np.testing.assert_allclose(padded[name], x, atol=loose, err_msg=name)


def test_a_mask_after_the_fact_is_a_mask_from_the_start():
    values = np.tile(np.array(INPUTS["missing"][0], np.float32), (B, 1, 1))
    keep = np.array([[True, True, False, True]] * B)
    whole = reward_batch(values, ("r0", "r1"))
    after = _compiled(mask_samples(whole, keep), lengths_of(values))
    for name, x in library(values, keep).items():
        np.testing.assert_allclose(after[name], x, atol=1e-6, err_msg=name)


def test_single_choices_can_be_changed():
    with pytest.raises(UserError, match="'ms_swift', 'nemo', 'nvlabs', 'paper', 'trl', 'verl'"):
        gdpo(convention="torch")
    centred = dataclasses.replace(CONVENTIONS["nemo"], leave_one_out=False)
    assert centred == Convention(group_eps=1e-6)
