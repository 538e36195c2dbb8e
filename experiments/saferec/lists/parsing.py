"""Recommendation lists out of free text: which films, and which characters name each of them.

An item is a line `Title (Year)`, with numbering, Markdown marks and quotes around it forgiven.

official: the behaviour of the published parser (SafeCRS, arXiv 2603.03536). It reads the first
closed <solution> block, and the whole text, reasoning included, where no block is closed.
fixed: the same lines, but of a closed block alone; a missing </solution> is a format failure and
gives no items.

Every step is linear in the length of the text.
"""

import bisect
import re
from collections.abc import Sequence
from typing import NamedTuple

from experiments.saferec.oracle.conventions import FIXED, Convention

SOLUTION_OPEN = "<solution>"
SOLUTION_CLOSE = "</solution>"

_MARKS = "*_-#"
_LEADING_MARKS = re.compile(r"[*_\-#]+")
_MARKS_OR_NUMBERING = re.compile(r"[*_\-#]+\s+|\d+\s*[.)\u3001\u2014\u2013\-]\s+")
_INNERMOST = re.compile(r"\([^()]*\)")
_MAX_LEVELS = 64
_HASHES = re.compile(r"#+\s*")
_YEAR = re.compile(r"\s\((\d{4})\)")


class Recommendation(NamedTuple):
    """One item of a list; text[start:end] is its line, the line break included."""

    title: str
    year: int
    start: int
    end: int


def parse_recommendations(text: str, *, convention: Convention = FIXED) -> list[Recommendation]:
    """The items of the list in `text`, in order; an empty list where there are none."""
    block = solution_span(text, convention=convention)
    if block is None:
        if convention.closed_lists:
            return []
        block = (0, len(text))
    found = []
    start, stop = block
    while start < stop:
        newline = text.find("\n", start, stop)
        end = stop if newline < 0 else newline + 1
        if (item := parse_line(text[start:end])) is not None:
            found.append(Recommendation(*item, start, end))
        start = end
    return found


def solution_span(text: str, *, convention: Convention = FIXED) -> tuple[int, int] | None:
    """Where the content of the closed solution block lies, or None if no block is closed.

    official: from the first opening tag to the next closing tag. fixed: from the last opening tag
    before that closing tag, so that a tag merely mentioned in the reasoning opens nothing.
    """
    start = text.find(SOLUTION_OPEN)
    if start < 0:
        return None
    stop = text.find(SOLUTION_CLOSE, start + len(SOLUTION_OPEN))
    if stop < 0:
        return None
    if convention.closed_lists:
        start = text.rfind(SOLUTION_OPEN, start, stop)
    return start + len(SOLUTION_OPEN), stop


def parse_line(line: str) -> tuple[str, int] | None:
    """Title and year of one line, or None if it is not an item."""
    text = " ".join(line.split())
    start, end = _unquote(text, *_strip_marks(text, 0, len(text)))
    # At least one character of title stands before the year.
    year = _YEAR.search(text, start + 1, end)
    if year is None:
        return None
    return _clean_title(text[start : year.start()]), int(year[1])


def _clean_title(title: str) -> str:
    """Without parenthesised parts, innermost first, and what that brings to the ends."""
    # The ends are stripped between levels: "(a)3. (b(c))" loses its number only while "(b)" still
    # follows it. A bound on the levels keeps the cost linear.
    for _ in range(_MAX_LEVELS):
        inner = _INNERMOST.sub("", title)
        if inner == title:
            break
        inner = " ".join(inner.split())
        start, end = _unquote(inner, *_strip_marks(inner, 0, len(inner)))
        title = inner[start:end]
    text = " ".join(_without_parentheses(title).split())
    start, end = 0, len(text)
    while True:
        ends = _unquote(text, *_strip_marks(text, start, end))
        if ends == (start, end):
            return text[start:end]
        start, end = ends


# The helpers below move the two ends of a slice and copy nothing: a line of a million marks or
# quotes costs as much as any other line of that length.


def _strip_marks(text: str, start: int, end: int) -> tuple[int, int]:
    """Moves the ends past marks and numbering until nothing changes."""
    start, end = _trim(text, start, end)
    while True:
        before = (start, end)
        if marks := _LEADING_MARKS.match(text, start, end):
            start = marks.end()
        start, end = _trim(text, start, end)
        while end > start and text[end - 1] in _MARKS:
            end -= 1
        start, end = _trim(text, start, end)
        if prefix := _MARKS_OR_NUMBERING.match(text, start, end):
            start = prefix.end()
        start, end = _trim(text, start, end)
        if hashes := _HASHES.match(text, start, end):
            start = hashes.end()
        if (start, end) == before:
            return start, end


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _unquote(text: str, start: int, end: int) -> tuple[int, int]:
    """Moves the ends past one pair of equal quotes; a lone quote counts as a pair."""
    if start < end and text[start] in "\"'" and text[start] == text[end - 1]:
        return start + 1, max(start + 1, end - 1)
    return start, end


def _without_parentheses(text: str) -> str:
    """Without every balanced pair of parentheses and what it encloses."""
    if "(" not in text or ")" not in text:
        return text
    kept: list[str] = []
    opened: list[int] = []
    for character in text:
        if character == ")" and opened:
            del kept[opened.pop() :]
            continue
        if character == "(":
            opened.append(len(kept))
        kept.append(character)
    return "".join(kept)


def rank_segments(
    recommendations: Sequence[Recommendation],
    spans: Sequence[tuple[int, int]],
    num_ranks: int,
) -> list[int]:
    """The rank of every token, from the characters it stands for.

    `spans` gives (start, end) in the text per token. A token belongs to the item in which it
    starts, or else to the first item it reaches into; a line break belongs to the item it ends.
    Tokens outside all items, and items from `num_ranks` on, get -1.
    """
    starts = [item.start for item in recommendations]
    segments = []
    for start, end in spans:
        rank = bisect.bisect_right(starts, start) - 1
        if rank < 0 or start >= recommendations[rank].end:
            rank += 1
            if rank >= len(starts) or starts[rank] >= end:
                rank = -1
        segments.append(rank if rank < num_ranks else -1)
    return segments


__all__ = [
    "SOLUTION_CLOSE",
    "SOLUTION_OPEN",
    "Recommendation",
    "parse_line",
    "parse_recommendations",
    "rank_segments",
    "solution_span",
]
