"""What a token id may be, checked where rows of them are made and read."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from gdpo_jax.errors import UserError

LARGEST = int(np.iinfo(np.int32).max)  # rows are int32


def check_token_ids(ids: Sequence[Any] | np.ndarray, vocab_size: int | None, where: str) -> None:
    """Every id is a whole number of the vocabulary.

    vocab_size: of the model; None knows no vocabulary, and checks what holds for all. where: what
    the ids are of, as "prompt of record 3".

    Raises UserError that names the place, the id and what is legal: negative ids (labels that other
    trainers ignore, -100, are none), ids beyond the vocabulary, fractions and truth values.
    """
    most = LARGEST if vocab_size is None else vocab_size - 1
    if isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype.kind in "iu":
        ids = ids.tolist()
    if set(map(type, ids)) <= {int} and (not ids or (min(ids) >= 0 and max(ids) <= most)):
        return
    for place, value in enumerate(ids):
        if not _is_id(value, most):
            raise UserError(
                f"{where} holds {value!r} at place {place}; token ids are whole numbers from 0 to "
                f"{most}"
            )


def _is_id(value: Any, most: int) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return False
    try:
        return 0 <= operator.index(value) <= most
    except TypeError:
        return False


__all__ = ["check_token_ids"]
