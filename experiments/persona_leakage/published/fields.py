"""Fields of published rows, checked with file, row and field in the message."""

from collections.abc import Mapping
from typing import Any

from experiments.common.files.json_rows import shown
from gdpo_jax.errors import UserError

__all__ = ["one_of", "record", "text", "texts"]

_RESTORE = "give the file as it was published, or restore it from a copy"


def record(value: Any, where: str) -> Mapping[str, Any]:
    """The value, which must be an object. Raises UserError that names the place."""
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: expected an object, found {shown(value)}; {_RESTORE}")
    return value


def text(row: Mapping[str, Any], field: str, where: str) -> str:
    """A text that is not empty, without spaces around it. Raises UserError by place and field."""
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"{where}, field {field!r}: expected text, found {shown(value)}; {_RESTORE}"
        )
    return value.strip()


def texts(row: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    """A list of at least one text. Raises UserError by place, field and number of the entry."""
    value = row.get(field)
    if not isinstance(value, list) or not value:
        raise UserError(
            f"{where}, field {field!r}: expected a list of texts, found {shown(value)}; {_RESTORE}"
        )
    for number, entry in enumerate(value):
        if not isinstance(entry, str) or not entry.strip():
            raise UserError(
                f"{where}, field {field!r}, entry {number}: expected text, found {shown(entry)}; "
                f"{_RESTORE}"
            )
    return tuple(entry.strip() for entry in value)


def one_of(row: Mapping[str, Any], field: str, known: tuple[str, ...], where: str) -> str:
    """A text that is one of some. Raises UserError by place and field with all of them."""
    value = text(row, field, where)
    if value not in known:
        raise UserError(
            f"{where}, field {field!r}: {shown(value)} is none of {', '.join(known)}; {_RESTORE}"
        )
    return value
