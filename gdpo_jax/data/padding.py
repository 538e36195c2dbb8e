"""Ragged token lists to rectangular arrays whose widths come from a short list of buckets.

Every new width is a new compilation, so widths are few and named in the configuration.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from gdpo_jax.errors import UserError

_LARGEST = int(np.iinfo(np.int32).max)


def bucket_for(length: int, buckets: Sequence[int], *, what: str = "sequence") -> int:
    """The smallest bucket that holds `length` tokens.

    Raises:
        UserError: no bucket is wide enough; names the length and the buckets.
    """
    fitting = [bucket for bucket in buckets if bucket >= length]
    if not fitting:
        raise UserError(
            f"a {what} of {length} tokens is longer than every bucket {sorted(buckets)}; "
            "shorten it or add a wider bucket"
        )
    return min(fitting)


def pad_right(
    rows: Sequence[Sequence[int]], width: int, *, pad_id: int, what: str = "sequence"
) -> tuple[Int[np.ndarray, "B width"], Int[np.ndarray, "B"]]:
    """Token rows padded on the right to `width`, and their lengths, both int32.

    Raises:
        UserError: a row is longer than `width` or empty, or holds something that is no token id
            (a fraction, a negative number, text); names the row and the value.
    """
    padded = np.full((len(rows), width), pad_id, np.int32)
    lengths = np.array([len(row) for row in rows], np.int32)
    for index, row in enumerate(rows):
        if not 0 < len(row) <= width:
            raise UserError(
                f"{what} in row {index} has {len(row)} tokens; legal are 1 to {width} tokens"
            )
        if (ids := _token_ids(row)) is None:
            wrong = next((token for token in row if _token_ids([token]) is None), row)
            raise UserError(
                f"{what} in row {index} holds {wrong!r}; token ids are whole numbers from 0 to "
                f"{_LARGEST}"
            )
        padded[index, : len(row)] = ids
    return padded, lengths


def _token_ids(row: Sequence[int]) -> np.ndarray | None:
    """The row as an array of whole numbers that int32 holds, or None."""
    try:
        ids = np.asarray(row)
    except ValueError:
        return None
    whole = ids.ndim == 1 and ids.dtype.kind in "iu"
    return ids if whole and ids.min() >= 0 and ids.max() <= _LARGEST else None
