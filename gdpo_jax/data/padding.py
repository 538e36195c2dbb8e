"""Ragged token lists to rectangular arrays whose widths come from a short list of buckets.

Every new width is a new compilation, so widths are few and named in the configuration.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from gdpo_jax.errors import UserError
from gdpo_jax.token_ids import check_token_ids


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
    rows: Sequence[Sequence[int]],
    width: int,
    *,
    pad_id: int,
    what: str = "sequence",
    vocab_size: int | None = None,
) -> tuple[Int[np.ndarray, "B width"], Int[np.ndarray, "B"]]:
    """Token rows padded on the right to `width`, and their lengths, both int32.

    vocab_size: of the model, where it is known; ids beyond it have no row in its embeddings.

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
        check_token_ids(row, vocab_size, f"{what} in row {index}")
        padded[index, : len(row)] = row
    return padded, lengths
