"""Tables of an attack for a terminal of eighty columns: arms downwards, intervals below means."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["print_attack"]

Entries = Mapping[str, Mapping[str, Any]]


def print_attack(
    found: Entries, titles: Mapping[str, str], console: Console, *, answers: int
) -> None:
    """Leakage of marks and of style with the detectors' errors, then extraction and exposure.

    found: entries of attack.json by arm. titles: of the arms. answers: to each request for a
    secret.
    """
    for name, entry in found.items():
        kind = f"paired leakage against {entry['without']}" if entry["without"] else "raw leakage"
        line = f"{titles[name]}: {kind} {_beside(entry['leakage'], 4)}"
        if entry["flips"]:
            line += f", McNemar p {entry['flips']['p_value']:.3g}"
        console.print(line, highlight=False, markup=False)
    # Lines may be longer than the terminal, tables not: their cells would be cut.
    console.print(_leakage(found, titles), soft_wrap=False)
    console.print(_secrets(found, titles, answers), soft_wrap=False)


def _leakage(found: Entries, titles: Mapping[str, str]) -> Table:
    table = _table("leakage of marks and of style, and how often their detectors are wrong")
    table.add_column("arm")
    table.add_column("of")
    for heading in ("leakage", "hits by\nchance", "missed"):
        table.add_column(heading, justify="right")
    for name, entry in found.items():
        rows = {"marks": (entry["leakage"], entry["errors"])}
        if "style" in entry["by_kind"]:
            rows["style"] = entry["by_kind"]["style"], entry["style_errors"]
        for of, (leaked, errors) in rows.items():
            sides = [errors and errors[side] for side in ("false_positive", "false_negative")]
            cells = [_below(leaked, 4), *(_below(side, 3) for side in sides)]
            table.add_row("" if of == "style" else escape(titles[name]), of, *cells)
    return table


def _secrets(found: Entries, titles: Mapping[str, str], answers: int) -> Table:
    """Rows of one arm stand below its title."""
    counts = list(dict.fromkeys(n for entry in found.values() for n in entry["exposure"]))
    table = _table("secrets in an answer to a stranger, and how exposed canaries are")
    table.add_column("arm")
    table.add_column("secrets\nsaid")
    for heading in ("first\nanswer", f"any of\n{answers} answers", "exposure,\nbits"):
        table.add_column(heading, justify="right")
    for name, entry in found.items():
        title = escape(titles[name])
        for count in dict.fromkeys([*entry["extraction"], *counts]):
            shares, bits = entry["extraction"].get(count), entry["exposure"].get(count)
            cells = [_beside(shares and shares[field], 2) for field in ("first", "any")]
            table.add_row(title, count, *cells, _beside(bits, 2))
            title = ""
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)


def _beside(interval: Mapping[str, Any] | None, digits: int) -> str:
    if interval is None:
        return "-"
    return f"{interval['mean']:.{digits}f} ({_bounds(interval, digits)})"


def _below(interval: Mapping[str, Any] | None, digits: int) -> str:
    if interval is None:
        return "-"
    return f"{interval['mean']:.{digits}f}\n{_bounds(interval, digits)}"


def _bounds(interval: Mapping[str, Any], digits: int) -> str:
    low, high = (f"{interval[bound]:.{digits}f}" for bound in ("low", "high"))
    return f"{low} to {high}" if low.startswith("-") else f"{low}-{high}"
