"""Fields of a JSON object by kind: a value of another kind is one error with file and field."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from gdpo_jax.errors import UserError

MOST = 2**24  # no size of a published model comes near it
REQUIRED = object()
LARGEST = 3.4e38  # about the largest float32


def whole(
    fields: Mapping[str, Any],
    name: str,
    where: str,
    *,
    least: int = 1,
    most: int = MOST,
    default: Any = REQUIRED,
) -> int:
    """A whole number within bounds. Raises UserError for another value, or none without default."""
    value = _value(fields, name, where, default)
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not least <= value <= most or value != int(value):
        raise UserError(
            f"{where}: {name} must be a whole number of {least} to {most}, got {_shown(value)}"
        )
    return int(value)


def number(
    fields: Mapping[str, Any],
    name: str,
    where: str,
    *,
    least: float = 0.0,
    default: Any = REQUIRED,
) -> float:
    """A number above `least` that float32 holds. Raises UserError for another value."""
    value = _value(fields, name, where, default)
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not least < value or not abs(value) <= LARGEST:
        above = "" if least == -math.inf else f" above {least:g}"
        raise UserError(f"{where}: {name} must be a finite number{above}, got {_shown(value)}")
    return float(value)


def flag(fields: Mapping[str, Any], name: str, where: str, *, default: Any = REQUIRED) -> bool:
    """True or false. Raises UserError for another value."""
    value = _value(fields, name, where, default)
    if not isinstance(value, bool):
        raise UserError(f"{where}: {name} must be true or false, got {_shown(value)}")
    return value


def record(fields: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """A JSON object, empty where absent or null. Raises UserError for another value."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: {name} must be an object, got {_shown(value)}")
    return dict(value)


def check_known(
    fields: Mapping[str, Any],
    where: str,
    *,
    used: Collection[str],
    fixed: Mapping[str, tuple[Any, ...]],
    harmless: Collection[str],
) -> None:
    """Raises UserError for a field that may change what is computed and that nobody reads.

    used: fields that the caller reads. fixed: fields and the values that the decoder computes.
    harmless: fields that change nothing. Any other field may be null, false or empty only.
    """
    for name, legal in fixed.items():
        if name in fields and not any(_same(fields[name], value) for value in legal):
            shown = ", ".join("null" if value is None else str(value) for value in legal)
            raise UserError(
                f"{where}: {name}={_shown(fields[name])} is not supported; legal: {shown}"
            )
    for name, value in fields.items():
        if name in used or name in fixed or name in harmless:
            continue
        if value is not None and value is not False and value not in ("", [], {}):
            raise UserError(
                f"{where}: the field {name}={_shown(value)} is unknown and may change what the "
                "model computes; remove it from the file if it does not"
            )


def _same(value: Any, legal: Any) -> bool:
    return isinstance(value, bool) == isinstance(legal, bool) and value == legal


def _value(fields: Mapping[str, Any], name: str, where: str, default: Any) -> Any:
    if name in fields and (fields[name] is not None or default is not REQUIRED):
        return fields[name]
    if default is REQUIRED:
        raise UserError(f"{where}: the field {name} is missing")
    return default


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


__all__ = ["MOST", "REQUIRED", "check_known", "flag", "number", "record", "whole"]
