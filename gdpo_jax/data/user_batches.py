"""Batches of users, each drawn with a fixed probability, with a position that can be stored."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from gdpo_jax.data.pipeline import RecordSource
from gdpo_jax.errors import UserError

__all__ = ["UserBatches", "user_batches", "user_slots"]


def user_slots(expected_users: int, *, unit: int) -> int:
    """Places for users, a multiple of `unit`, that nearly every batch fits in: the expected number
    and four standard deviations of it."""
    return -(-math.ceil(expected_users + 4 * math.sqrt(expected_users)) // unit) * unit


def user_batches(
    source: RecordSource,
    *,
    users: Sequence[Hashable],
    expected_users: int,
    rows_per_user: int,
    seed: int,
    shards: int = 1,
    users_at_once: int = 1,
    process_index: int = 0,
    process_count: int = 1,
) -> "UserBatches":
    """This process's share of endless batches of users, by Poisson sampling.

    users: whose each record of the source is. Every user is in a batch with the probability
    `expected_users / number of users`, whatever the others do; a batch may be empty. Of a user in
    it there are up to `rows_per_user` records, drawn anew without replacement.

    A batch is a list of places of `rows_per_user` rows each, and None where there is no record.
    Places are a multiple of `shards * users_at_once`, and users are dealt out to the `shards` equal
    slices in turn, so that each has about as many.

    Raises UserError for records without users, fewer users than are expected in a batch, numbers
    that are not positive, and slices that do not divide over the processes.
    """
    sizes = {
        "expected_users": expected_users,
        "rows_per_user": rows_per_user,
        "shards": shards,
        "users_at_once": users_at_once,
    }
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} must be at least 1, got {size}")
    if seed < 0:
        raise UserError(f"seed must not be negative, got {seed}")
    if len(users) != len(source):
        raise UserError(f"{len(source)} records have {len(users)} users; give each one")
    if shards % process_count:
        raise UserError(f"{shards} slices do not divide over {process_count} processes")
    rows: dict[Hashable, list[int]] = {}
    for index, user in enumerate(users):
        rows.setdefault(user, []).append(index)
    if len(rows) < expected_users:
        raise UserError(
            f"the records are of {len(rows)} users, and a batch is to have {expected_users}; "
            f"expect at most {len(rows)} in a batch"
        )
    share = shards // process_count
    return UserBatches(
        source,
        [np.array(own) for own in rows.values()],
        described={"users": len(rows), "records": len(source), "seed": seed, **sizes},
        slices=slice(process_index * share, (process_index + 1) * share),
    )


class UserBatches:
    """What `user_batches` returns: a `RecordIterator`. Each batch has a generator of its own, of
    the seed and the batch's number, so that the number is all of its position."""

    def __init__(
        self,
        source: RecordSource,
        rows: Sequence[np.ndarray],
        *,
        described: dict[str, Any],
        slices: slice,
    ):
        self._source, self._rows = source, rows
        self._described, self._slices = described, slices
        self._batches = 0

    def describe(self) -> dict[str, Any]:
        """What all processes of a run must share, JSON-like."""
        return dict(self._described)

    def __iter__(self) -> "UserBatches":
        return self

    def __next__(self) -> list[Any]:
        about = self._described
        draw = np.random.default_rng([about["seed"], self._batches])
        rate = about["expected_users"] / about["users"]
        drawn = np.flatnonzero(draw.random(about["users"]) < rate)
        chosen = [self._choose(self._rows[user], draw) for user in drawn]
        self._batches += 1
        places = self._places(len(chosen))
        nobody = [None] * about["rows_per_user"]
        # Place p of slice s is that of the (p * shards + s)-th user.
        dealt = np.arange(places).reshape(-1, about["shards"]).T[self._slices].ravel()
        return [row for i in dealt for row in (chosen[i] if i < len(chosen) else nobody)]

    def get_state(self) -> dict[str, Any]:
        return {"batches": self._batches}

    def set_state(self, state: dict[str, Any], /) -> None:
        self._batches = int(state["batches"])

    def _choose(self, own: np.ndarray, draw: np.random.Generator) -> list[Any]:
        most = self._described["rows_per_user"]
        kept = own if len(own) <= most else draw.choice(own, most, replace=False)
        return [self._source[int(index)] for index in kept] + [None] * (most - len(kept))

    def _places(self, count: int) -> int:
        """Places for so many users: few different numbers, since each one is a compilation."""
        about = self._described
        unit = about["shards"] * about["users_at_once"]
        all_users = -(-about["users"] // unit) * unit
        places = user_slots(about["expected_users"], unit=unit)
        while places < count:
            places *= 2
        return min(places, all_users)
