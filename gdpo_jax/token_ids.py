"""What a token id may be, checked where rows of them are made and read."""

import operator
from collections.abc import Sequence
from typing import Any

from gdpo_jax.errors import UserError

LARGEST = 2**31 - 1  # rows are int32


def check_token_ids(ids: Sequence[Any], vocab_size: int | None, where: str) -> None:
    """Every id is a whole number of the vocabulary.

    vocab_size: of the model; None knows no vocabulary, and checks what holds for all. where: what
    the ids are of, as "prompt of record 3".

    Raises UserError that names the place, the id and what is legal: negative ids (labels that other
    trainers ignore, -100, are none), ids beyond the vocabulary, floats and truth values.
    """
    most = LARGEST if vocab_size is None else vocab_size - 1
    if set(map(type, ids)) <= {int} and (not ids or (min(ids) >= 0 and max(ids) <= most)):
        return
    for place, value in enumerate(ids):
        try:
            legal = type(value).__name__ not in ("bool", "bool_") and (
                0 <= operator.index(value) <= most
            )
        except TypeError:
            legal = False
        if not legal:
            raise UserError(
                f"{where}: the token id at place {place} is {value!r}; legal are whole numbers "
                f"from 0 to {most}"
            )


__all__ = ["check_token_ids"]
