"""Batches with a given number of records of each class."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdpo_jax.data import balanced_batches
from gdpo_jax.errors import UserError

SOURCE = [{"id": i, "kind": "ab"[i % 3 == 0]} for i in range(14)]
KINDS = [row["kind"] for row in SOURCE]


def batches(counts, **options):
    return balanced_batches(SOURCE, classes=KINDS, counts=counts, **({"seed": 3} | options))


@settings(max_examples=15, deadline=None)
@given(a=st.integers(0, 5), b=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_batch_has_its_counts_and_no_record_twice(a, b, seed):
    for batch in itertools.islice(batches({"a": a, "b": b}, seed=seed), 4):
        assert [row["kind"] for row in batch] == ["a"] * a + ["b"] * b
        assert len({row["id"] for row in batch}) == a + b


def test_a_smaller_class_comes_round_more_often():
    seen = [row["id"] for batch in itertools.islice(batches({"a": 3, "b": 5}), 3) for row in batch]
    of_b = [i for i in seen if KINDS[i] == "b"]
    assert sorted(of_b) == sorted(3 * [0, 3, 6, 9, 12])
    assert len({i for i in seen if KINDS[i] == "a"}) == 9


def test_it_goes_on_from_a_stored_position():
    first, second = batches({"a": 2, "b": 2}), batches({"a": 2, "b": 2})
    for _ in range(3):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    expected = [next(first) for _ in range(5)]
    second.set_state(state)
    assert [next(second) for _ in range(5)] == expected
    other = batches({"a": 2, "b": 2}, seed=4)
    assert [next(other) for _ in range(5)] != expected
    assert first.describe() != other.describe()


def test_processes_cut_the_same_batch():
    whole = next(batches({"a": 3, "b": 1}))
    shares = [next(batches({"a": 3, "b": 1}, process_index=i, process_count=2)) for i in range(2)]
    assert shares[0] + shares[1] == whole


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ({"c": 1}, {}, "no record is of class 'c'; there are 'a', 'b'"),
        ({"b": 6}, {}, "class 'b': the source has 5 records"),
        ({"a": 0}, {}, "no class has a count"),
        ({"a": 1, "b": 2}, {"process_count": 2}, "do not divide over 2 processes"),
        ({"a": -1}, {}, "class 'a'"),
        ({"a": 1}, {"classes": KINDS[:3]}, "14 records have 3 classes"),
    ],
)
def test_wrong_counts_are_named(counts, options, message):
    given = {"classes": KINDS, "counts": counts, "seed": 0} | options
    with pytest.raises(UserError, match=message):
        balanced_batches(SOURCE, **given)
