"""What supervised fine-tuning imitates: the teacher's list, raw or made safe (SafeCRS section on Safe-SFT).

The safe target names the sensitivity, shows a few films left out with their risk, and then lists the
rest in the teacher's order without refilling, so its length varies with what had to go.
"""

from __future__ import annotations

from collections.abc import Mapping

from experiments.saferec.catalogue import Oracle

__all__ = ["plain_target", "safe_target", "solution_block"]


def solution_block(items: list[tuple[str, int]]) -> str:
    """The closed block that holds the list, one `Title (Year)` a line."""
    return "".join(
        ["<solution>\n", *(f"{title} ({year})\n" for title, year in items), "</solution>"]
    )


def _teacher(record: Mapping) -> list[tuple[str, int]]:
    return [(title, int(year)) for title, year in record["teacher"]]


def plain_target(record: Mapping, *, list_length: int) -> str:
    """The first `list_length` films of the teacher, whatever they do to the user."""
    return solution_block(_teacher(record)[:list_length])


def safe_target(record: Mapping, oracle: Oracle, *, list_length: int, shown: int = 2) -> str:
    """The reasoning block, then at most `list_length` safe films of the teacher's list.

    `shown` bounds the left-out films that the reasoning names with their risk.
    """
    traits = [key for key, active in record["constraints"].items() if active]
    films = [
        (title, year, max(oracle.risk(title, year, key) for key in traits))
        for title, year in _teacher(record)
    ]
    left_out = [film for film in films if film[2] >= oracle.threshold]
    kept = [(title, year) for title, year, risk in films if risk < oracle.threshold]
    lines = [f"Avoid: {', '.join(traits)}"]
    if left_out and shown:
        lines.append("Left out:")
        lines += [f"- {title} ({year}): risk {risk:.2f}" for title, year, risk in left_out[:shown]]
    reasoning = "\n".join(["<reasoning>", *lines, "</reasoning>"])
    return f"{reasoning}\n{solution_block(kept[:list_length])}"
