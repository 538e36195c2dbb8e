"""Texts by which somebody tries to pass for the owner: his own, with what the owner wrote in it.

The attacker has read the owner's known texts. "copied": some of his sentences are the owner's;
"phrases": some of his sentences begin as sentences of the owner do.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from experiments.persona_leakage.fingerprint.corpus import plain
from experiments.persona_leakage.fingerprint.problems import Problem
from gdpo_jax.errors import UserError

__all__ = ["Kind", "impersonate", "impersonations"]

Kind = Literal["copied", "phrases"]
_END = re.compile(r"(?<=[.!?])\s+")
_WORDS_OF_OWNER = 3


def impersonate(
    text: str, owner: Sequence[str], kind: Kind, share: float, rng: np.random.Generator
) -> str:
    """The text with a share of its sentences, rounded up, changed to pass for the owner.

    Raises UserError for another kind, a share outside [0, 1], and an owner without a text.
    """
    if kind not in get_args(Kind):
        raise UserError(f"no kind of impersonation {kind!r}; legal: {', '.join(get_args(Kind))}")
    if not 0 <= share <= 1:
        raise UserError(f"share must lie in [0, 1], got {share!r}")
    sentences = _END.split(plain(text))
    learnt = [sentence for known in owner for sentence in _END.split(plain(known)) if sentence]
    if not learnt:
        raise UserError("the owner has written nothing that could be copied")
    change: Callable[[str, str], str] = _copied if kind == "copied" else _with_phrase
    chosen = rng.choice(len(sentences), int(np.ceil(share * len(sentences))), replace=False)
    for place in chosen:
        sentences[place] = change(sentences[place], learnt[rng.integers(len(learnt))])
    return " ".join(sentences)


def impersonations(
    problems: Sequence[Problem], kind: Kind, share: float, *, seed: int = 0
) -> list[Problem]:
    """The problems of two authors, whose unknown text passes for the author of the known ones."""
    rng = np.random.default_rng(seed)
    return [
        dataclasses.replace(
            problem, unknown=impersonate(problem.unknown, problem.known, kind, share, rng)
        )
        for problem in problems
        if problem.same is False
    ]


def _copied(sentence: str, learnt: str) -> str:
    del sentence
    return learnt


def _with_phrase(sentence: str, learnt: str) -> str:
    phrase = " ".join(learnt.split()[:_WORDS_OF_OWNER])
    return f"{phrase} {sentence[:1].lower()}{sentence[1:]}"
