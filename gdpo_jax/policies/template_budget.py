"""What a chat template may spend: a count of work that stands for both time and memory.

A unit is about one evaluated expression, eight characters or a quarter of a list's element. Counts
depend on the template and the messages alone, never on a clock, so a template is refused on every
machine or on none.
"""

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any

BASE_UNITS = 2_000_000  # about a second of pure Python, or 16 million characters
UNITS_PER_INPUT = 32  # how often a template may go over the messages besides
CALL_UNITS = 10  # of a call, a filter and a test, besides what it works on
MAX_DEPTH = 100  # of lists within lists
MAX_BITS = 10_000  # of an integer


class TemplateLimit(Exception):
    """A template that does not end, or builds more than any prompt needs."""


class Budget:
    """The units that one rendering has left."""

    __slots__ = ("left",)

    def __init__(self, given: Any):
        self.left = BASE_UNITS
        self.left += UNITS_PER_INPUT * weight(given)

    def spend(self, units: int) -> None:
        """Raises TemplateLimit once more is spent than there was."""
        self.left -= max(0, units)
        if self.left < 0:
            raise TemplateLimit("it does not end, or builds far more text than the messages hold")


def weight(value: Any) -> int:
    """The units of a value with all that it holds; shared parts count each time.

    Raises TemplateLimit for a value of more units than any budget, or too deep a one.
    """
    kind = type(value)
    if kind is str:
        return 1 + (len(value) >> 3)
    if kind is int:
        return 1 + (value.bit_length() >> 5)
    if kind is bool or value is None or kind is float:
        return 1
    total, rest = 0, [(value, 0)]
    while rest:
        value, depth = rest.pop()
        total += 4
        if isinstance(value, str):
            total += len(value) >> 3
            continue
        if isinstance(value, int):
            total += value.bit_length() >> 5
            continue
        if isinstance(value, range):
            total += len(value) >> 2
            continue
        parts = _parts(value)
        if parts is None:
            continue
        if depth >= MAX_DEPTH:
            raise TemplateLimit(f"it nests values more than {MAX_DEPTH} deep")
        if len(parts) > 1 << 28 or total > 1 << 32:
            raise TemplateLimit("it builds a value that is far too large")
        total += 4 * len(parts)
        if total > 1 << 27:
            raise TemplateLimit("it builds a value that is far too large")
        rest.extend((part, depth + 1) for part in parts)
    return total


def text_weight(value: Any) -> int:
    """The units of `str(value)`: escapes make the text of a list longer than what it holds."""
    return weight(value) if isinstance(value, str) else 12 * weight(value)


def _parts(value: Any) -> list | tuple | None:
    """What a container holds; None for what holds nothing that a template can grow."""
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (KeysView, ValuesView)):
        return list(value)
    if isinstance(value, ItemsView):
        return [part for pair in value for part in pair]
    if type(value).__name__ == "Namespace" and type(value).__module__ == "jinja2.utils":
        held = object.__getattribute__(value, "_Namespace__attrs")
        return [*held.keys(), *held.values()]
    return None


__all__ = ["CALL_UNITS", "MAX_BITS", "Budget", "TemplateLimit", "text_weight", "weight"]
