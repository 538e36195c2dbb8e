"""Batches of records from any random-access source, with a position that can be stored.

The global order is drawn first and then cut: batch `i` holds the same records in the same order
however many processes share it, and process `p` of `n` gets the `p`-th of `n` equal slices. A
stored position therefore stays valid when the number of processes changes.
"""

import hashlib
import json
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np
from grain.experimental import FlatMapMapDataset, FlatMapTransform

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
    sort_keys: Sequence[int] | None = None,
    sort_batches: int = 1,
) -> "RecordBatches":
    """This process's share of every global batch of `batch_size` records, as lists.

    Each epoch has its own order, drawn from `seed`; the records left over at its end are dropped.

    sort_keys: a number for every record, such as its padded width. Records of `sort_batches`
    batches at a time are sorted by it, equal ones in the order drawn, and cut into batches, which
    come in an order of their own: records of one batch are then alike, and all come as often as
    before. With fewer records, as many batches are sorted together as there are whole ones.

    Raises:
        UserError: the source is empty or no source, the batch does not divide over the processes or
            is larger than the source, or a number is not a whole one of its range.
    """
    if not isinstance(source, RecordSource):
        raise UserError(
            f"the source is a {type(source).__name__}; it must have a length and give records by "
            "index, as a list does"
        )
    batch_size = _whole("batch_size", batch_size, 1)
    seed = _whole("seed", seed, 0)
    process_count = _whole("process_count", process_count, 1)
    process_index = _whole("process_index", process_index, 0)
    if process_index >= process_count:
        raise UserError(f"process_index {process_index} is not in 0..{process_count - 1}")
    if batch_size % process_count:
        below = max(batch_size // process_count, 1) * process_count
        raise UserError(
            f"a batch of {batch_size} records does not divide over {process_count} processes; "
            f"use {below}, {below + process_count}, {below + 2 * process_count}, ..."
        )
    if len(source) == 0:
        raise UserError("the source has no records")
    if len(source) < batch_size:
        most = len(source) // process_count * process_count
        way = f"a batch of at most {most}" if most else f"at least {process_count} records"
        raise UserError(
            f"the source has {len(source)} records, fewer than one batch of {batch_size}; use {way}"
        )
    share = batch_size // process_count
    start = process_index * share

    def load(indices: Any) -> list[Any]:
        return [source[int(index)] for index in indices[start : start + share]]

    order = grain.MapDataset.range(len(source)).seed(seed)
    if shuffle:
        order = order.shuffle()
    together = min(_whole("sort_batches", sort_batches, 1), len(source) // batch_size)
    if together > 1:
        keys = _sort_keys(sort_keys, len(source))
        sorted_together = order.batch(together * batch_size, drop_remainder=True).random_map(
            lambda indices, rng: _alike(indices, keys, together, rng)
        )
        batches = FlatMapMapDataset(sorted_together, _Parts(together)).map(load)
    else:
        batches = order.batch(batch_size, drop_remainder=True).map(load)
    if repeat:
        batches = batches.repeat()
    # No reader threads: records are small, and the position then counts delivered batches exactly.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    described = {
        "records": len(source),
        "batch_size": batch_size,
        "seed": seed,
        "repeat": bool(repeat),
        "shuffle": bool(shuffle),
        **({"sort_batches": together} if together > 1 else {}),
    }
    return RecordBatches(iter(batches.to_iter_dataset(options)), source, described)


class RecordBatches:
    """What `record_batches` returns: a `RecordIterator` that can say what it iterates over."""

    def __init__(self, batches: Any, source: RecordSource, described: dict[str, Any]):
        self._batches, self._source, self._described = batches, source, described

    def describe(self) -> dict[str, Any]:
        """What all processes of a run must share, JSON-like; reads a few of the records."""
        return {**self._described, "digest of some records": _digest(self._source)}

    def __iter__(self) -> "RecordBatches":
        return self

    def __next__(self) -> list[Any]:
        return next(self._batches)

    def get_state(self) -> dict[str, Any]:
        return self._batches.get_state()

    def set_state(self, state: dict[str, Any], /) -> None:
        self._batches.set_state(state)


class _Parts(FlatMapTransform):
    """The batches of records that were sorted together, one after the other."""

    def __init__(self, count: int):
        self.max_fan_out = count

    def flat_map(self, element: np.ndarray) -> list[np.ndarray]:
        return list(element)


def _alike(
    indices: np.ndarray, keys: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """The indices as `count` batches of like keys, in an order drawn from `rng`."""
    ordered = indices[np.argsort(keys[indices], kind="stable")]
    return rng.permutation(ordered.reshape(count, -1), axis=0)


def _sort_keys(keys: Sequence[int] | None, count: int) -> np.ndarray:
    if keys is None:
        raise UserError("sort_batches sorts records by sort_keys; give them as well")
    if len(keys) != count:
        raise UserError(f"{count} records have {len(keys)} sort_keys; give each one")
    return np.asarray(keys)


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise UserError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def _digest(source: RecordSource) -> str | None:
    """Of up to eight records from first to last; None where JSON cannot hold them."""
    last = len(source) - 1
    places = sorted({last * part // 7 for part in range(8)})
    try:
        text = json.dumps([source[place] for place in places], sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:16]
