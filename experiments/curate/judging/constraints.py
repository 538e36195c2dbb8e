"""What a constraint is about: the words by which an answer can show that it is remembered.

`conditions.json` is a table of kinds of constraints: `said` are words of a constraint by which a
kind is known, `names` are what an answer calls it, `hints` are words that speak of it less surely.
"""

import dataclasses
import functools
import re

from experiments.common.files.json_rows import read_resource
from experiments.common.judges.phrases import phrases, plain, words

__all__ = ["Words", "read_table", "understand"]

_PACKAGE = "experiments.curate.judging"
_SHORTEST = 4  # letters of a stem that stands for a word and its forms


@dataclasses.dataclass(frozen=True)
class Words:
    """The words of one constraint, with those of the question left out."""

    names: re.Pattern[str]
    owned: re.Pattern[str]  # a name, or what happened, behind "your" or "you"
    hints: re.Pattern[str]


@functools.cache
def read_table(name: str) -> dict[str, re.Pattern[str]]:
    """The patterns of a table of phrases that lies in this package."""
    return {key: phrases(found) for key, found in read_resource(_PACKAGE, name).items()}


@functools.lru_cache(maxsize=4096)
def understand(constraint: str, question: str) -> Words:
    """The words by which answers to the question show that they remember the constraint."""
    said, asked = plain(constraint), plain(question)
    own = _content(said)
    names, hints = [], []
    for pattern, kind in _conditions():
        if pattern.search(said):
            names += kind["names"]
            hints += kind["hints"]
    # What the question says itself shows nothing when it comes back, unless it is said of the user.
    told = [name for name in names if not phrases([name]).search(asked)]
    distinct = [word for word in own if not phrases([word]).search(asked)]
    # A word that only constraints of one kind have, such as a disease nobody has listed.
    told += distinct if not names else []
    hints = [hint for hint in hints if not phrases([hint]).search(asked)]
    return Words(
        names=phrases(told),
        owned=_owned(names, distinct),
        hints=phrases([*hints, *distinct]),
    )


def _owned(names: list[str], distinct: list[str]) -> re.Pattern[str]:
    """What is said of the user; of words that stand in no table only at close range."""
    mine = r"(?<![\w'])(?:your|user's|you (?:have|had|were|are|suffer|survived|went|use))"
    named, other = phrases(names).pattern, phrases(distinct).pattern
    return re.compile(rf"{mine} (?:(?:[\w-]+ ){{0,3}}?{named}|(?:[\w-]+ ){{0,1}}?{other})")


def _content(said: str) -> list[str]:
    """The words of a constraint that say something, each as its stem with a star."""
    stop = set(read_resource(_PACKAGE, "words.json")["stop"])
    return [_stem(word) for word in dict.fromkeys(words(said)) if word not in stop]


def _stem(word: str) -> str:
    for ending in ("'s", "ies", "ing", "es", "ed", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST:
            return word.removesuffix(ending) + "*"
    return word + "*" if len(word) >= _SHORTEST else word


@functools.cache
def _conditions() -> list[tuple[re.Pattern[str], dict[str, list[str]]]]:
    table = read_resource(_PACKAGE, "conditions.json")
    return [(phrases(kind["said"]), kind) for kind in table]
