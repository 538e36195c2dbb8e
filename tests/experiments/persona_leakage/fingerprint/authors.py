"""Authors with habits of writing, and problems made of what they write; no text of anybody."""

import numpy as np

from experiments.persona_leakage.fingerprint.problems import Problem

_NOUNS = ("house", "river", "market", "garden", "letter", "winter", "school", "train", "window")
_VERBS = ("saw", "found", "left", "wanted", "painted", "missed", "crossed", "watched", "praised")
_LINKS = (("and", "then"), ("but", "still"), ("so", "thus"), ("while", "also"), ("as", "yet"))
_ENDS = (".", "!", "...", " -", ";")


def essay(author: int, rng: np.random.Generator, sentences: int = 12) -> str:
    """Sentences on random subjects, with the author's link words and ends."""
    link, adverb = _LINKS[author % 5]
    end = _ENDS[(author // 5) % 5]
    article = "the" if author % 2 else "a"
    parts = []
    for _ in range(sentences):
        first, second = rng.choice(_NOUNS, 2)
        one, other = rng.choice(_VERBS, 2)
        use = link if rng.random() < 0.8 else "or"
        parts.append(f"I {one} {article} {first} {use} {adverb} {other} {article} {second}{end}")
    return " ".join(parts)


def problems(count: int, *, seed: int, known: int = 2, first: int = 0) -> list[Problem]:
    """Problems of authors from `first` on, by turns with one author and with two."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        author = first + number
        other = author if number % 2 == 0 else author + 1
        found.append(
            Problem(
                id=f"P{number:02}",
                known=tuple(essay(author, rng) for _ in range(known)),
                unknown=essay(other, rng),
                same=author == other,
            )
        )
    return found
