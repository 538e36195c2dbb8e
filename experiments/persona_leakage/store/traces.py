"""What is left of deleted bytes in files: a search that finds any piece of 23 bytes or more.

A piece of 23 bytes holds a word of 16 that starts at a multiple of 8 in the file. The words at all
multiples of 8 of a file are compared with the words at every place of what was deleted, so that one
pass over the file is enough however much was deleted, and wherever it lies.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Found", "Words", "search_file", "words_of", "words_within"]

_WORD, _STEP = 16, 8  # bytes
_CHUNK = 1 << 22  # bytes at a time
_BITS = 20  # of the table that tells most words of a file apart from those looked for
_FACTORS = tuple(np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


@dataclass(frozen=True)
class Words:
    """Words to look for: their hashes, sorted, and a table of the hashes' leading bits."""

    hashes: np.ndarray  # uint64 [words]
    table: np.ndarray  # bool [2 ** bits]


@dataclass(frozen=True)
class Found:
    """What a file has: hashes of words, and the name."""

    hashes: np.ndarray  # uint64 [words found], sorted
    name: bool


def words_of(texts: Iterable[bytes]) -> Words:
    """The words at every place of these texts; those shorter than a word have none."""
    return _words(_union(_hashes_anywhere(text) for text in texts))


def search_file(path: Path, words: Words, name: bytes) -> Found:
    """Which of the words a file has at multiples of 8, and has it the name (16 bytes) anywhere.

    Raises `OSError` for a file that cannot be read.
    """
    found, named, tail = [], False, b""
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            named = named or name in tail + part
            # A word may begin in the last eight bytes of the part before.
            found.append(_among(_hashes((tail + part)[len(tail) and _STEP :]), words))
            tail = part[-_WORD:]
    return Found(_union(found), named)


def words_within(hashes: np.ndarray, texts: Iterable[bytes]) -> np.ndarray:
    """Those of the words (as `Found.hashes`) that texts have at any place."""
    words = _words(hashes)
    return _union(_among(_hashes_anywhere(text), words) for text in _joined(texts))


def _joined(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Many texts as few, with zeros between them."""
    held, size = [], 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size > _CHUNK:
            yield bytes(_WORD).join(held)
            held, size = [], 0
    yield bytes(_WORD).join(held)


def _words(hashes: np.ndarray) -> Words:
    table = np.zeros(1 << _BITS, bool)
    table[_leading(hashes)] = True
    return Words(hashes, table)


def _among(hashes: np.ndarray, words: Words) -> np.ndarray:
    likely = hashes[words.table[_leading(hashes)]]
    return np.intersect1d(likely, words.hashes)


def _union(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))


def _leading(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(64 - _BITS)).astype(np.int64)


def _hashes_anywhere(text: bytes) -> np.ndarray:
    return np.concatenate([_hashes(text[start:]) for start in range(_STEP)])


def _hashes(data: bytes) -> np.ndarray:
    """Hashes of the words at multiples of 8: uint64 [len / 8 - 1]."""
    eights = np.frombuffer(data, "<u8", count=len(data) // _STEP).astype(np.uint64)
    first, second, last = _FACTORS
    mixed = (eights[:-1] * first) ^ (eights[1:] * second)
    return (mixed ^ (mixed >> np.uint64(32))) * last
