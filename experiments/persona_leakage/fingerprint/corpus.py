"""Texts with authors, from verification problems whose truth is known.

The known texts of a problem have one author, who also wrote the unknown one where the answer is
"same". Problems may share texts: what is the same text has the same author, whichever problem it
stands in, and problems that are connected in this way belong on one side of every split.
`T` texts, `N` problems.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from experiments.persona_leakage.fingerprint.problems import Problem
from gdpo_jax.errors import UserError

__all__ = ["Corpus", "corpus_of", "folds_of", "plain"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """texts: distinct, in order of appearance, as `plain` makes them
    authors [T]: which of them are by one author
    groups [T]: connected texts, by authors or by problems that compare them
    of_problem [N]: the group of each problem
    """

    texts: tuple[str, ...]
    authors: Int[np.ndarray, "T"]
    groups: Int[np.ndarray, "T"]
    of_problem: Int[np.ndarray, "N"]


def plain(text: str) -> str:
    """The text with single spaces between its words, whatever stood there: how lines break is the
    file's, not the author's."""
    return " ".join(text.split())


def corpus_of(problems: Sequence[Problem]) -> Corpus:
    """The texts of problems with their authors.

    Raises UserError for no problems, a problem without truth, and a truth that contradicts another
    problem's.
    """
    if not problems:
        raise UserError("there are no problems to learn from")
    place: dict[str, int] = {}
    rows = []
    for problem in problems:
        if problem.same is None:
            raise UserError(f"problem {problem.id!r} has no truth; learning needs it")
        rows.append(
            [place.setdefault(plain(t), len(place)) for t in (*problem.known, problem.unknown)]
        )
    same = _Sets(len(place))
    for problem, (first, *others, unknown) in zip(problems, rows, strict=True):
        for other in (*others, *([unknown] if problem.same else [])):
            same.join(first, other)
    authors = same.roots()
    for problem, (first, *_, unknown) in zip(problems, rows, strict=True):
        if not problem.same and authors[first] == authors[unknown]:
            raise UserError(
                f"problem {problem.id!r} says two authors, but other problems connect its texts as "
                "by one; correct the truth"
            )
    for first, *_, unknown in rows:
        same.join(first, unknown)
    groups = same.roots()
    return Corpus(
        texts=tuple(place),
        authors=authors,
        groups=groups,
        of_problem=np.array([groups[row[0]] for row in rows]),
    )


def folds_of(
    groups: Int[np.ndarray, "T"], *, count: int, rng: np.random.Generator
) -> list[Int[np.ndarray, "G"]]:
    """The groups in `count` parts of about equal size, at random.

    Raises UserError for fewer than two parts, and fewer groups than parts.
    """
    names = np.unique(groups)
    if not 2 <= count <= len(names):
        raise UserError(f"{len(names)} groups of connected texts make 2 to as many folds: {count}")
    return np.array_split(rng.permutation(names), count)


class _Sets:
    """Disjoint sets of the first numbers, joined in pairs (union-find)."""

    def __init__(self, count: int):
        self._above = list(range(count))

    def _root(self, number: int) -> int:
        while self._above[number] != number:
            self._above[number] = self._above[self._above[number]]
            number = self._above[number]
        return number

    def join(self, one: int, other: int) -> None:
        self._above[self._root(other)] = self._root(one)

    def roots(self) -> np.ndarray:
        return np.array([self._root(number) for number in range(len(self._above))])
