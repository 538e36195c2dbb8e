"""Film titles to look-up keys: one fixed normaliser, and the published ones it replaces.

SafeCRS (arXiv 2603.03536) builds its title map with `map_key` and looks titles up with
`lookup_key`. The two disagree on more than a quarter of the catalogue, mostly on leading articles,
and those films count as safe. `match_key` is one normaliser for both sides.
"""

import functools
import re
import unicodedata
from collections.abc import Callable

_ARTICLES = ("the", "a", "an")
_TRAILING_ARTICLE = re.compile(r"(.+), (the|a|an)")
_NOT_WORD = re.compile(r"[\W_]+")
_NOT_WORD_SPACE_APOSTROPHE = re.compile(r"[^\w\s']")
_NOT_WORD_SPACE = re.compile(r"[^\w\s]")
_LEADING_ARTICLE = re.compile(r"(?:the|a|an)\s+")
_APOSTROPHES = str.maketrans("", "", "'\u2019\u2018`\u00b4")

Normalizer = Callable[[str], str]


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


__all__ = [
    "Normalizer",
    "casefold_key",
    "exact_key",
    "lookup_key",
    "lower_key",
    "map_key",
    "match_key",
]
