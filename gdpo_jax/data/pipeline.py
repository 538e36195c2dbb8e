"""Batches of records from any random-access source, with a position that can be stored.

The global order is drawn first and then cut: batch `i` holds the same records in the same order
however many processes share it, and process `p` of `n` gets the `p`-th of `n` equal slices. A
stored position therefore stays valid when the number of processes changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import grain

from gdpo_jax.errors import UserError

Record = Mapping[str, Any]


@runtime_checkable
class RecordSource(Protocol):
    """Anything with a length and records by index: a list, an array_record file, a TFDS source."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@runtime_checkable
class RecordIterator(Protocol):
    """An endless or finite stream of this process's batches that knows where it is."""

    def __iter__(self) -> "RecordIterator": ...

    def __next__(self) -> Sequence[Any]: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any], /) -> None: ...


def record_batches(
    source: RecordSource,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    repeat: bool = True,
    shuffle: bool = True,
) -> RecordIterator:
    """This process's share of every global batch of `batch_size` records, as lists.

    Each epoch has its own order, drawn from `seed`; the records left over at its end are dropped.

    Raises:
        UserError: the batch does not divide over the processes, the source is smaller than it or no
            source at all, or the seed is negative.
    """
    if not 0 <= process_index < process_count:
        raise UserError(f"process_index {process_index} is not in 0..{process_count - 1}")
    if batch_size < 1 or batch_size % process_count:
        below = max(batch_size // process_count, 1) * process_count
        raise UserError(
            f"a batch of {batch_size} records does not divide over {process_count} processes; "
            f"use {below}, {below + process_count}, {below + 2 * process_count}, ..."
        )
    if not isinstance(source, RecordSource):
        raise UserError(
            f"records must have a length and be read by index, as a list is; got a "
            f"{type(source).__name__}"
        )
    if seed < 0:
        raise UserError(f"the seed of the record order must not be negative, got {seed}")
    if len(source) < batch_size:
        raise UserError(
            f"the source has {len(source)} records, fewer than one batch of {batch_size}; "
            f"use a batch of at most {len(source)}"
        )
    share = batch_size // process_count
    start = process_index * share

    def load(indices: Any) -> list[Any]:
        return [source[int(index)] for index in indices[start : start + share]]

    order = grain.MapDataset.range(len(source)).seed(seed)
    if shuffle:
        order = order.shuffle()
    batches = order.batch(batch_size, drop_remainder=True).map(load)
    if repeat:
        batches = batches.repeat()
    # No reader threads: records are small, and the position then counts delivered batches exactly.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(batches.to_iter_dataset(options))
