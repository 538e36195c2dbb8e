"""Films by title and year: look-up keys of titles, and reading a year or a pair.

SafeCRS (arXiv 2603.03536) builds its title map with `map_key` and looks titles up with
`lookup_key`. The two disagree on more than a quarter of the catalogue, mostly on leading articles,
and those films count as safe. `match_key` is one normaliser for both sides.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from experiments.common.files.json_rows import shown

__all__ = [
    "FilmKey",
    "Normalizer",
    "casefold_key",
    "exact_key",
    "lookup_key",
    "lower_key",
    "map_key",
    "match_key",
    "to_film",
    "to_year",
]

FilmKey = tuple[str, int]
Normalizer = Callable[[str], str]

_LAST_YEAR = 9999
_ARTICLES = ("the", "a", "an")
_TRAILING_ARTICLE = re.compile(r"(.+), (the|a|an)")
_NOT_WORD = re.compile(r"[\W_]+")
_NOT_WORD_SPACE_APOSTROPHE = re.compile(r"[^\w\s']")
_NOT_WORD_SPACE = re.compile(r"[^\w\s]")
_LEADING_ARTICLE = re.compile(r"(?:the|a|an)\s+")
_APOSTROPHES = str.maketrans("", "", "'\u2019\u2018`\u00b4")


def to_year(value: Any) -> int:
    """The year as a number from a number or a string of digits; ValueError for anything else."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LAST_YEAR:
        raise ValueError(f"{shown(value)} is no year")
    return value


def to_film(entry: Any) -> FilmKey:
    """(title, year) from a pair; ValueError for anything else."""
    is_pair = isinstance(entry, Sequence) and not isinstance(entry, str) and len(entry) == 2
    if not is_pair or not isinstance(entry[0], str):
        raise ValueError(f"{shown(entry)} is not a pair of title and year")
    return entry[0], to_year(entry[1])


@functools.lru_cache(maxsize=1 << 17)
def match_key(title: str) -> str:
    """The fixed key: no case, accents, punctuation, leading article, "and" or "&".

    "The Matrix", "matrix" and "Matrix, The" agree, and so do "Amélie" and "Amelie". It is
    idempotent, so a key may serve as a title; a key of the published map does, which is why "&"
    cannot read "and". A title with nothing left keeps its characters.
    """
    text = title.casefold()
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
    text = text.strip()
    if trailing := _TRAILING_ARTICLE.fullmatch(text):
        text = trailing[1]
    words = _NOT_WORD.sub(" ", text.translate(_APOSTROPHES)).split()
    if "and" in words and len(words) > 1:
        words = [word for word in words if word != "and"] or ["and"]
    while len(words) > 1 and words[0] in _ARTICLES:
        del words[0]
    return " ".join(words or text.split())


def map_key(title: str) -> str:
    """The key the published title map was built with: articles and apostrophes stay."""
    return " ".join(_NOT_WORD_SPACE_APOSTROPHE.sub(" ", title.lower()).split())


@functools.lru_cache(maxsize=1 << 17)
def lookup_key(title: str) -> str:
    """The key the published oracle looks up: leading article and all punctuation deleted."""
    text = title.lower().strip()
    if article := _LEADING_ARTICLE.match(text):
        text = text[article.end() :]
    return " ".join(_NOT_WORD_SPACE.sub("", text).split())


def casefold_key(title: str) -> str:
    """The key of the published reward functions: case and repeated spaces do not matter."""
    return " ".join(title.split()).casefold()


def lower_key(title: str) -> str:
    """The key of the published catalogue match: lower case, nothing else."""
    return title.lower()


def exact_key(title: str) -> str:
    """The key of the published Recall and NDCG: the title as it stands."""
    return title
