"""What the operators and methods of texts and numbers cost before they run."""

import re
from collections.abc import Mapping, Sized
from typing import Any

from gdpo_jax.policies.template_budget import MAX_BITS, TemplateLimit, weight

WIDEST = 1_000  # columns of a formatted value


def number_units(operator: str, left: Any, right: Any) -> int:
    if not (isinstance(left, int) and isinstance(right, int)):
        return 1
    sizes = left.bit_length(), right.bit_length()
    grown = max(sizes)
    if operator == "*":
        grown = sum(sizes)
    elif operator == "**" and right > 0:
        grown = sizes[0] * right
    if max(grown, *sizes) > MAX_BITS:
        raise TemplateLimit(f"it computes with numbers of more than {MAX_BITS} bits")
    return 1 + (grown >> 3)


def method_units(method: Any, args: tuple, kwargs: Mapping) -> int:
    """What a method of a text, list or mapping costs at most."""
    owner, name = method.__self__, method.__name__
    given = [*args, *kwargs.values()]
    units = sum(map(weight, given))
    if isinstance(owner, (list, tuple)):
        return units + weight(owner)
    if not isinstance(owner, str):
        return units + 1
    size, first = len(owner), given[0] if given else None
    units += 1 + (size >> 3)
    if name in ("center", "ljust", "rjust", "zfill"):
        units += max(0, first) if isinstance(first, int) else 0
    elif name == "expandtabs":
        units += owner.count("\t") * (max(0, first) if isinstance(first, int) else 8)
    elif name == "replace" and len(given) > 1 and isinstance(first, str):
        units += owner.count(first) * len(given[1]) >> 2
    elif name == "join":
        pieces = len(first) if isinstance(first, Sized) else 0
        units += (size * pieces >> 2) + 4 * pieces
    elif name in ("split", "rsplit"):
        units += 4 * (owner.count(first) if isinstance(first, str) and first else size // 2)
    elif name == "splitlines":
        units += 4 * size
    if name in ("lstrip", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "strip") and (
        isinstance(first, str)
    ):
        units += size * len(first) >> 6  # the whole text against the whole argument
    return units


def check_widths(form: str) -> None:
    """Of the part of a `str.format` field behind the colon."""
    if any(len(number) > 4 or int(number) > WIDEST for number in re.findall(r"\d+", form)):
        raise TemplateLimit(f"it formats a value to more than {WIDEST} columns")


def check_printf(form: str) -> None:
    """Of a text in front of the operator `%`."""
    at = form.find("%")
    while at >= 0:
        at += 1
        if form[at : at + 1] == "(":  # a name, in which brackets come in pairs
            depth = 0
            while at < len(form):
                depth += {"(": 1, ")": -1}.get(form[at], 0)
                at += 1
                if depth == 0:
                    break
        widths = re.compile(r"[^a-zA-Z%]*").match(form, at)
        if "*" in widths[0]:
            raise TemplateLimit("it takes the columns of a format from a value")
        check_widths(widths[0])
        at = form.find("%", widths.end() + 1)


__all__ = ["WIDEST", "check_printf", "check_widths", "method_units", "number_units"]
