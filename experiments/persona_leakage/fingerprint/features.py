"""Counts of what a text is written with, apart from what it is about.

Three views of one text: words and punctuation marks, the most frequent of which are function
words; character 4-grams after every word but the most frequent ones has become a star (text
distortion: Stamatatos, EACL 2017), which leaves how sentences are built; and character bigrams,
which hold spelling and punctuation. Content words and long n-grams of them are left out on purpose:
two texts of one author on two subjects must not look less alike than two authors' on one. `T`
texts, `V` terms of all views.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from experiments.persona_leakage.fingerprint.corpus import plain
from gdpo_jax.errors import UserError

__all__ = ["Features", "View", "choose_features", "count", "proportions"]

_WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+|[^\w\s]")
_LETTERS = re.compile(r"[^\W\d_]+")
_SIZES = {"words": 300, "masked": 2000, "characters": 600}


@dataclasses.dataclass(frozen=True)
class View:
    """A kind of terms ("words", "masked" or "characters") and which of them are counted."""

    name: str
    terms: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Features:
    """What is counted; `kept`: the words that text distortion leaves as they are."""

    kept: frozenset[str]
    views: tuple[View, ...]

    def slices(self) -> Iterator[tuple[str, slice]]:
        """Name and columns of each view."""
        start = 0
        for view in self.views:
            yield view.name, slice(start, start + len(view.terms))
            start += len(view.terms)


def choose_features(
    texts: Sequence[str], *, kept: int = 250, sizes: dict[str, int] | None = None
) -> Features:
    """The most frequent terms of some texts; words stay that stand in the most texts.

    sizes: terms of each view; 300 words, 2,000 distorted 4-grams, 600 bigrams unless given.

    Raises UserError for no texts.
    """
    if not texts:
        raise UserError("there are no texts to choose features from")
    texts = [plain(text) for text in texts]
    standing = Counter(word for text in texts for word in set(_LETTERS.findall(text.lower())))
    words = frozenset(_most_frequent(standing, kept))
    views = []
    for name, size in (sizes or _SIZES).items():
        terms: Counter[str] = Counter()
        for text in texts:
            terms.update(_terms_of(name, words)(text))
        views.append(View(name, tuple(_most_frequent(terms, size))))
    return Features(words, tuple(views))


def count(features: Features, texts: Sequence[str]) -> Float[np.ndarray, "T V"]:
    """How often each term stands in each text, view after view, float32."""
    texts = [plain(text) for text in texts]
    parts = []
    for view in features.views:
        place = {term: column for column, term in enumerate(view.terms)}
        part = np.zeros((len(texts), len(view.terms)), np.float32)
        for row, text in enumerate(texts):
            for term, number in Counter(_terms_of(view.name, features.kept)(text)).items():
                if (column := place.get(term)) is not None:
                    part[row, column] = number
        parts.append(part)
    return np.concatenate(parts, axis=1)


def proportions(features: Features, counts: Float[np.ndarray, "*T V"]) -> Float[np.ndarray, "*T V"]:
    """Square roots of the terms' shares in their view, whose variance does not depend on the share
    (Hellinger's transform); 0 for a view without any term."""
    parts = []
    for _, columns in features.slices():
        part = counts[..., columns]
        parts.append(np.sqrt(part / np.maximum(part.sum(axis=-1, keepdims=True), 1.0)))
    return np.concatenate(parts, axis=-1)


def _terms_of(name: str, kept: frozenset[str]) -> Callable[[str], list[str]]:
    if name == "words":
        return lambda text: _WORDS.findall(text.lower())
    if name == "characters":
        return lambda text: _n_grams(text, 2)
    return lambda text: _n_grams(_distorted(text, kept), 4)


def _distorted(text: str, kept: frozenset[str]) -> str:
    return _LETTERS.sub(lambda m: m.group() if m.group().lower() in kept else "*", text)


def _n_grams(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(len(text) - size + 1)]


def _most_frequent(counts: Counter, size: int) -> list[str]:
    """Of equally frequent ones the first in alphabetical order, so that it is always the same."""
    return [term for term, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:size]]
