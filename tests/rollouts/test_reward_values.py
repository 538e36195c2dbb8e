"""Rewards are numbers, one a completion: whatever else a function answers is refused by name."""

import array
import collections
import datetime
import decimal
import fractions
import math

import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.advantages import reward_batch
from gdpo_jax.rollouts import Completion, RewardError, rewards, score

MASKED = np.ma.array([1.0, 2.0], mask=[True, False])
BROKEN = type("Broken", (), {"__repr__": lambda self: 1 / 0})


def answers(value, *, num_ranks=None, count=2):
    def mine(completions, records):
        return value() if callable(value) else value

    completions = [Completion(f"text {i}", (0,), ((0, 6),), True) for i in range(count)]
    return score(
        [mine], completions, [{}] * count, num_prompts=1, num_samples=count, num_ranks=num_ranks
    )


async def coroutine():
    return 1.0


async def stream():
    yield 1.0


@pytest.mark.parametrize(
    "value",
    [
        {0: 1.0, 1: 0.0},
        collections.UserDict({0: 1.0, 1: 0.0}),
        {0.25, 0.75},
        frozenset((0.25, 0.75)),
        {0: 1.0, 1: 0.0}.values(),
        "11",
        b"11",
        bytearray(b"11"),
        memoryview(b"11"),
        collections.UserString("11"),
        lambda: (1.0 for _ in range(2)),
        1.0,
        np.array(1.0),
        jnp.array(1.0),
        np.ma.masked,
        None,
        lambda: stream(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_list_is_refused_with_its_type(value):
    with pytest.raises(RewardError, match=r"'mine' returned <class .*> for 2 completions"):
        answers(value)


@pytest.mark.parametrize(
    "entry",
    [
        "0.5",
        b"1",
        bytearray(b"1"),
        collections.UserString("1"),
        np.str_("0.5"),
        1 + 0j,
        np.complex64(1),
        jnp.complex64(1),
        {0: 1.0},
        {1.0},
        datetime.date(2026, 1, 1),
        np.datetime64("2026-01-01", "ns"),
        np.timedelta64(5, "ns"),
        10**400,
        1e39,
        math.inf,
        decimal.Decimal("sNaN"),
        decimal.Decimal("Infinity"),
        (x for x in (1.0,)),
        BROKEN(),
        type,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_is_refused_with_its_sample(entry):
    message = r"'mine' returned .* for sample 1 of 2, whose text is 'text 1'\na reward is a finite"
    with pytest.raises(RewardError, match=message):
        answers([0.0, entry])
    with pytest.raises(RewardError, match=message):
        answers([None, [0.0, entry]], num_ranks=2)


@pytest.mark.parametrize(
    "column",
    [
        np.array(["0.5", "1"]),
        np.array([b"1", b"2"]),
        np.array([1j, 2]),
        jnp.array([1j, 2]),
        np.array([1, 2], "M8[ns]"),
        np.array([1, 2], "m8[ns]"),
    ],
    ids=lambda value: str(value.dtype),
)
def test_arrays_of_something_else_are_refused(column):
    with pytest.raises(RewardError, match="a reward is a finite number"):
        answers(column)


def test_coroutines_in_a_list_are_refused_and_ended():
    """The tests turn the warning about coroutines that nobody awaits into an error."""
    with pytest.raises(RewardError, match="'mine' returned <coroutine"):
        answers([coroutine(), coroutine()])


@pytest.mark.parametrize(
    "column",
    [
        [True, 2],
        (1.0, 2.0),
        [decimal.Decimal("1"), fractions.Fraction(2)],
        [np.bool_(True), np.int8(2)],
        [np.float16(1), np.longdouble(2)],
        [jnp.bfloat16(1), jnp.array(2)],
        [np.array(1), np.asarray(jnp.bfloat16(2))],
        np.array([True, 2], object),
        np.array([1, 2], np.uint8),
        jnp.array([1, 2], jnp.bfloat16),
        np.asarray(jnp.array([1, 2], jnp.bfloat16)),
        array.array("d", [1, 2]),
        collections.deque([1.0, 2.0]),
        range(1, 3),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
def test_numbers_of_every_kind_count(column):
    batch = answers(column)
    assert batch.values.tolist() == [[[1.0], [2.0]]] and batch.valid.all()
    assert batch.values.dtype == np.float32


@pytest.mark.parametrize(
    "column",
    [MASKED, list(MASKED), [np.ma.array(1.0, mask=True), 2], [decimal.Decimal("NaN"), 2]],
    ids=lambda value: type(value).__name__,
)
def test_masked_entries_are_abstentions(column):
    batch = answers(column)
    assert batch.valid.tolist() == [[[False], [True]]]
    assert batch.values.tolist() == [[[0.0], [2.0]]]


def test_arrays_of_ranks_are_read_like_lists():
    batch = answers(np.array([[1, 2, 3], [4, 5, np.nan]]), num_ranks=3)
    assert batch.values.tolist() == [[[[1, 2, 3]], [[4, 5, 0]]]]
    assert batch.valid[0, 1, 0].tolist() == [True, True, False]
    for column in ([{0: 1.0, 1: 2.0, 2: 3.0}, None], [{1.0, 2.0, 3.0}, None], ["123", None]):
        with pytest.raises(RewardError, match="a reward is a finite number"):
            answers(column, num_ranks=3)


def test_a_column_of_one_is_no_number_per_sample():
    with pytest.raises(RewardError, match=r"returned 1 values for sample 0 .*\n.*whole samples"):
        answers(np.ones((2, 1)))


def test_a_list_that_cannot_be_read_is_named():
    class Lazy:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            raise OSError("gone")

    with pytest.raises(RewardError, match=r"'mine' .*entries cannot be read \(OSError\)"):
        answers(Lazy())


def test_numbers_are_float64_until_the_batch_is_made(monkeypatch):
    """What float32 cannot hold is for `reward_batch` to see."""
    seen = []

    def spy(values, names):
        seen.append(values)
        return reward_batch(np.zeros_like(values), names)

    monkeypatch.setattr(rewards, "reward_batch", spy)
    assert answers([2**24 + 0.25, 2**24 + 0.5]).values.dtype == np.float32
    assert seen[0].dtype == np.float64 and seen[0].tolist() == [[[2**24 + 0.25], [2**24 + 0.5]]]
