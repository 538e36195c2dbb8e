"""Batches that hold a given number of records of each class, with a position that can be stored."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from gdpo_jax.data.pipeline import RecordBatches, RecordSource, record_batches
from gdpo_jax.errors import UserError

__all__ = ["BalancedBatches", "balanced_batches"]


def balanced_batches(
    source: RecordSource,
    *,
    classes: Sequence[Hashable],
    counts: Mapping[Hashable, int],
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> "BalancedBatches":
    """This process's share of endless batches with `counts` records of each class.

    classes: the class of every record of the source. Records of a class that has no count, or a
    count of 0, are in no batch. Each class goes through its records in an order of its own, drawn
    anew for each pass, so that a smaller class comes round more often; within a batch no record
    comes twice.

    Raises UserError as `record_batches`, naming the class, and for a class without records.
    """
    if len(classes) != len(source):
        raise UserError(f"{len(source)} records have {len(classes)} classes; give each one")
    chosen = {name: count for name, count in counts.items() if count != 0}
    if not chosen:
        raise UserError(f"no class has a count in a batch: {dict(counts)}")
    whole, streams = sum(chosen.values()), {}
    if whole % process_count:
        raise UserError(f"{whole} records a batch do not divide over {process_count} processes")
    for number, (name, count) in enumerate(chosen.items()):
        own = [source[i] for i, each in enumerate(classes) if each == name]
        if not own:
            found = ", ".join(sorted({repr(each) for each in classes}))
            raise UserError(f"no record is of class {name!r}; there are {found}")
        # Classes of one size would else keep the same partners for ever.
        [own_seed] = np.random.SeedSequence([seed, number]).generate_state(1)
        try:
            streams[name] = record_batches(own, batch_size=count, seed=int(own_seed))
        except UserError as error:
            raise UserError(f"class {name!r}: {error}") from error
    share = whole // process_count
    return BalancedBatches(streams, slice(process_index * share, (process_index + 1) * share))


class BalancedBatches:
    """What `balanced_batches` returns: a `RecordIterator` over several of them."""

    def __init__(self, streams: Mapping[Hashable, RecordBatches], share: slice):
        self._streams, self._share = streams, share

    def describe(self) -> dict[str, Any]:
        """What all processes of a run must share, JSON-like."""
        return {str(name): stream.describe() for name, stream in self._streams.items()}

    def __iter__(self) -> "BalancedBatches":
        return self

    def __next__(self) -> list[Any]:
        return [row for stream in self._streams.values() for row in next(stream)][self._share]

    def get_state(self) -> dict[str, Any]:
        return {str(name): stream.get_state() for name, stream in self._streams.items()}

    def set_state(self, state: dict[str, Any], /) -> None:
        for name, stream in self._streams.items():
            stream.set_state(state[str(name)])
