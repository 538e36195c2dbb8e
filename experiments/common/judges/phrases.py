"""Phrases of a language as patterns, and texts in the form in which they are looked for."""

import re
from collections.abc import Iterable

__all__ = ["phrases", "plain", "sentences", "words"]

_MARKS = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2014": " - ",
        "\u2013": "-",
        "*": " ",
    }
)
_SHORT = [
    (re.compile(pattern), full)
    for pattern, full in (
        (r"\bcan(?:'t|not)\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"\bain't\b", "is not"),
        (r"n't\b", " not"),
        (r"\blet's\b", "let us"),
        (r"\b(that|it|there|here|what|he|she)'s\b", r"\1 is"),
        (r"'m\b", " am"),
        (r"'re\b", " are"),
        (r"'ve\b", " have"),
        (r"'ll\b", " will"),
        (r"'d\b", " would"),
    )
]
_END = re.compile(r"(?<=[.!?])[\"')]*\s+|\s*\n\s*")


def plain(text: str) -> str:
    """The text in lower case, with plain marks and without contractions; line ends stay."""
    text = text.lower().translate(_MARKS)
    for pattern, full in _SHORT:
        text = pattern.sub(full, text)
    return re.sub(r"[ \t]+", " ", text)


def sentences(text: str) -> list[str]:
    """The sentences and lines of a plain text."""
    return [part.strip() for part in _END.split(text) if re.search(r"\w", part)]


def words(text: str) -> list[str]:
    """The words of a plain text, in order."""
    return re.findall(r"[a-z0-9]+(?:[-'][a-z0-9]+)*", text)


def phrases(found: Iterable[str]) -> re.Pattern[str]:
    """A pattern of any of the phrases, in a plain text, as whole words.

    A star stands for the rest of a word, `...` between two words for up to four others. A pattern
    of no phrase is found nowhere.
    """
    every = sorted(set(found), key=lambda phrase: (-len(phrase), phrase))
    if not every:
        return re.compile(r"(?!)")
    inside = "|".join(_pattern(phrase) for phrase in every)
    return re.compile(rf"(?<![\w'])(?:{inside})(?![\w'])")


def _pattern(phrase: str) -> str:
    pattern = ""
    for part in phrase.split():
        if part == "...":
            pattern += r"(?:[\w'-]+ ){0,4}"
        else:
            pattern += re.escape(part).replace(r"\*", r"[\w-]*") + " "
    return pattern.removesuffix(" ")
