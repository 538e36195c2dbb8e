"""Records of this process to padded token rows; every process ends up with the same widths."""

import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from gdpo_jax.data import RecordIterator, bucket_for, pad_right
from gdpo_jax.errors import UserError
from gdpo_jax.training.mesh import process_share
from gdpo_jax.training.processes import agreed_maximum, together

TokenRows = Sequence[Sequence[int]]


def next_encoded(
    records: RecordIterator, encode: Callable[[Any], Any], *, batch_size: int | None, mesh: Mesh
) -> tuple[list[Any], list[Any]]:
    """This process's share of the next batch, and `encode` of each record.

    batch_size: of all processes together; None where each batch has a size of its own.

    Raises:
        UserError: the records ran out, the iterator's share is not the one the mesh expects, or
            `encode` failed on a record; names the record.
    """

    def read() -> tuple[list[Any], list[Any]]:
        batch = list(next(records, ()))
        index, count = process_share(mesh)
        if not batch:
            raise UserError("the records ran out before the last step; let the iterator repeat")
        if batch_size is not None and len(batch) * count != batch_size:
            raise UserError(
                f"the iterator gave {len(batch)} records, but slice {index} of {count} of a batch "
                f"of {batch_size} has {batch_size // count}; build it with process_share(mesh)"
            )
        return batch, encode_all(encode, batch)

    return together(read)


def encode_all(encode: Callable[[Any], Any], records: Sequence[Any]) -> list[Any]:
    """`encode` of each record.

    Raises:
        UserError: it failed; names the record, and for a missing field those that exist.
    """
    return [_encoded(encode, record, number) for number, record in enumerate(records)]


def _encoded(encode: Callable[[Any], Any], record: Any, number: int) -> Any:
    try:
        return encode(record)
    except UserError as error:
        raise UserError(f"record {number} of the batch: {error}") from error
    except KeyError as error:
        fields = sorted(map(str, record)) if isinstance(record, Mapping) else None
        has = f"its fields are {fields}" if fields is not None else f"it is a {_kind(record)}"
        raise UserError(
            f"record {number} of the batch has no field {error.args[0]!r}, which `encode` reads; "
            f"{has}"
        ) from error
    except Exception as error:
        shown = repr(record)
        raise UserError(
            f"`encode` raised {type(error).__name__}: {error}\non record {number} of the batch, "
            f"{shown if len(shown) <= 200 else shown[:200] + '...'}"
        ) from error


def _kind(value: Any) -> str:
    return type(value).__name__


def as_example(encoded: Any) -> tuple[Sequence[int], Sequence[int], int | None]:
    """What `encode` gave: token ids of a prompt and of its completion, and a label or None.

    Raises UserError for anything else.
    """
    text = isinstance(encoded, (str, bytes)) or not hasattr(encoded, "__len__")
    if text or len(encoded) not in (2, 3):
        raise UserError(
            "`encode` must give two lists of token ids, those of the prompt and of the completion, "
            "and may give a label"
        )
    prompt, completion, *label = encoded
    if label and (isinstance(label[0], bool) or not isinstance(label[0], numbers.Integral)):
        raise UserError(f"a label must be a whole number, got {label[0]!r}")
    return prompt, completion, int(label[0]) if label else None


def label_array(labels: Sequence[int | None]) -> Int[np.ndarray, "B"] | None:
    """The labels of a batch, or None where no record has one; raises UserError where some have."""
    if all(label is None for label in labels):
        return None
    if None in labels:
        raise UserError(
            f"record {labels.index(None)} of the batch has no label, and others have one"
        )
    return np.array(labels, np.int32)


def pad_together(
    rows: TokenRows, buckets: Sequence[int], *, pad_id: int, what: str, vocab_size: int
) -> tuple[Int[np.ndarray, "B width"], Int[np.ndarray, "B"]]:
    """`pad_right` to the bucket that the longest row of any process needs.

    Raises:
        UserError: a row is empty, longer than every bucket, or holds something that is no token of
            a vocabulary of `vocab_size`.
    """

    def width_of() -> int:
        for number, row in enumerate(rows):
            _check_ids(row, f"{what} of record {number} of the batch", vocab_size)
        return bucket_for(max(map(len, rows)), buckets, what=what)

    def pad(width: int) -> Any:
        return pad_right(rows, width, pad_id=pad_id, what=what)

    width = together(width_of)
    width = agreed_maximum(width)
    return together(lambda: pad(width))


def _check_ids(row: Any, where: str, vocab_size: int) -> None:
    if isinstance(row, (str, bytes)) or not hasattr(row, "__len__"):
        raise UserError(f"the {where} is {_kind(row)}; `encode` must give a list of token ids")
    ids = np.asarray(row)
    if len(row) and (ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer)):
        raise UserError(f"the {where} holds something that is no token id: {list(row)[:8]}")
    wrong = ids[(ids < 0) | (ids >= vocab_size)] if len(row) else ids
    if len(wrong):
        raise UserError(
            f"the {where} holds token id {wrong[0]}; the policy knows 0 to {vocab_size - 1}"
        )
