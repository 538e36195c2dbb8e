"""Batches of users: each by chance of its own, rows up to a bound, and a position of one number."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdpo_jax.data import RecordIterator, user_batches, user_slots
from gdpo_jax.errors import UserError

# User u has u + 1 records.
USERS = [user for user in range(6) for _ in range(user + 1)]
SOURCE = [{"user": user, "number": number} for number, user in enumerate(USERS)]


def batches(**changes):
    options = {"users": USERS, "expected_users": 2, "rows_per_user": 3, "seed": 4}
    return user_batches(SOURCE, **(options | changes))


def places(batch, rows_per_user=3):
    parts = [batch[i : i + rows_per_user] for i in range(0, len(batch), rows_per_user)]
    return [[row for row in part if row is not None] for part in parts]


def users_of(batch):
    return sorted(place[0]["user"] for place in places(batch) if place)


def test_every_user_is_drawn_with_the_expected_rate_whatever_the_others_do():
    stream, count = batches(), 3000
    drawn = np.zeros((count, 6))
    for number in range(count):
        for user in users_of(next(stream)):
            drawn[number, user] += 1
    assert drawn.max() == 1  # nobody twice
    # Standard errors: sqrt(2/9 / 3000) = 0.0086 of a rate, 1/sqrt(3000) = 0.018 of a correlation.
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / 3, atol=0.035)
    between = np.corrcoef(drawn.T) - np.eye(6)
    assert np.abs(between).max() < 0.075
    assert (drawn.sum(axis=1) == 0).any()  # (2/3)^6 = 0.088 of the batches are empty


def test_rows_are_the_users_own_up_to_the_bound_and_all_come_round():
    stream, seen = batches(expected_users=6), collections.Counter()
    for _ in range(40):
        for place in places(next(stream)):
            numbers = [row["number"] for row in place]
            assert len(set(numbers)) == len(numbers)
            if place:
                [user] = {row["user"] for row in place}
                assert len(place) == min(user + 1, 3)
            seen.update(numbers)
    assert set(seen) == set(range(len(SOURCE)))
    assert [seen[0], seen[1], seen[2]] == [40, 40, 40]  # users with no more than the bound


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    expected=st.integers(1, 6),
    at_once=st.integers(1, 3),
    processes=st.sampled_from([1, 2, 4]),
    steps=st.integers(0, 3),
)
def test_slices_and_places_never_change_who_is_in_a_batch(
    seed, expected, at_once, processes, steps
):
    alone = batches(seed=seed, expected_users=expected)
    cut = [
        batches(
            seed=seed,
            expected_users=expected,
            shards=4,
            users_at_once=at_once,
            process_index=index,
            process_count=processes,
        )
        for index in range(processes)
    ]
    for stream in (alone, *cut):
        stream.set_state({"batches": steps})
    whole, parts = next(alone), [next(stream) for stream in cut]
    assert len({len(part) for part in parts}) == 1
    together = [row for part in parts for row in part]
    assert len(together) % (4 * at_once * 3) == 0
    assert sorted(map(str, places(together))) == sorted(
        map(str, places(whole) + [[]] * (len(together) // 3 - len(whole) // 3))
    )
    # Users are dealt out: slices differ by one user at most, and free places stand at their end.
    filled = np.array([bool(place) for place in places(together)]).reshape(4, -1)
    assert np.ptp(filled.sum(axis=1)) <= 1
    assert (np.diff(filled.astype(int), axis=1) <= 0).all()


def test_a_stored_position_gives_the_same_batches():
    stream = batches()
    assert isinstance(stream, RecordIterator)
    first = [next(stream) for _ in range(5)]
    other = batches()
    other.set_state({"batches": 2})
    assert [next(other) for _ in range(3)] == first[2:]
    assert stream.get_state() == other.get_state() == {"batches": 5}
    assert any(first[0] != next(batches(seed=seed)) for seed in range(5, 8))


def test_more_users_than_usual_take_more_places_and_none_is_left_out():
    assert user_slots(4, unit=1) == 12
    assert user_slots(4, unit=8) == 16
    many = [{"user": user} for user in range(400)]
    stream = user_batches(
        many, users=list(range(400)), expected_users=4, rows_per_user=1, seed=0, users_at_once=4
    )
    assert [stream._places(count) for count in (0, 12, 13, 300)] == [12, 12, 24, 384]
    assert batches(expected_users=6)._places(6) == 6  # no more places than users


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expected_users": 7}, "of 6 users, and a batch is to have 7; expect at most 6"),
        ({"rows_per_user": 0}, "rows_per_user must be at least 1"),
        ({"users": USERS[1:]}, "21 records have 20 users"),
        ({"process_count": 2}, "1 slices do not divide over 2 processes"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_what_cannot_be_drawn_is_named(changes, message):
    with pytest.raises(UserError, match=message):
        batches(**changes)
