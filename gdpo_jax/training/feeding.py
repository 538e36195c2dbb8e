"""Records of this process to padded token rows; every process ends up with the same widths."""

from collections.abc import Callable, Sequence
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
    records: RecordIterator, encode: Callable[[Any], Any], *, batch_size: int, mesh: Mesh
) -> tuple[list[Any], list[Any]]:
    """This process's share of the next batch, and `encode` of each record.

    Raises:
        UserError: the records ran out, or the iterator's share is not the one the mesh expects.
    """

    def read() -> tuple[list[Any], list[Any]]:
        batch = list(next(records, ()))
        index, count = process_share(mesh)
        if not batch:
            raise UserError("the records ran out before the last step; let the iterator repeat")
        if len(batch) * count != batch_size:
            raise UserError(
                f"the iterator gave {len(batch)} records, but slice {index} of {count} of a batch "
                f"of {batch_size} has {batch_size // count}; build it with process_share(mesh)"
            )
        return batch, [encode(record) for record in batch]

    return together(read)


def pad_together(
    rows: TokenRows, buckets: Sequence[int], *, pad_id: int, what: str
) -> tuple[Int[np.ndarray, "B width"], Int[np.ndarray, "B"]]:
    """`pad_right` to the bucket that the longest row of any process needs.

    Raises:
        UserError: a row is empty or longer than every bucket.
    """

    def pad(width: int) -> Any:
        return pad_right(rows, width, pad_id=pad_id, what=what)

    width = together(lambda: bucket_for(max(map(len, rows)), buckets, what=what))
    width = agreed_maximum(width)
    return together(lambda: pad(width))
