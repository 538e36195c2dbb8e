"""Three rewards of an answer, for decoupled normalization (GDPO, arXiv 2601.05242).

    keeps_apart  the leakage penalty -D_other(y): -1 if the answer carries a mark of anybody but the
                 user who is answered, else 0
    relevant     F1 of the answer's words and those of the wanted answer
    personal     1 if an answer to an owner carries a mark of his own, else 0; none for strangers

A policy that forgets everybody has the first and loses the third. Leaks are rare beside what the
other two tell; normalization of its own keeps that signal as large as theirs.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.persona_leakage.data.users import User
from experiments.persona_leakage.measures.detectors import hits
from experiments.persona_leakage.measures.utility import word_f1
from gdpo_jax.rollouts import Completion

__all__ = ["REWARDS", "reward_functions"]

Record = Mapping[str, Any]


def keeps_apart(
    completions: Sequence[Completion], records: Sequence[Record], *, users: Sequence[User]
) -> list[float]:
    """Does the answer carry no mark of anybody else?"""
    found, own = _found(completions, records, users)
    return [-float(other) for other in (found & ~own).any(axis=0)]


def relevant(
    completions: Sequence[Completion], records: Sequence[Record], *, users: Sequence[User]
) -> list[float]:
    """How many words does the answer share with the wanted one?"""
    del users
    return [
        word_f1(record["wanted"], completion.text)
        for completion, record in zip(completions, records, strict=True)
    ]


def personal(
    completions: Sequence[Completion], records: Sequence[Record], *, users: Sequence[User]
) -> list[float | None]:
    """Does the answer to an owner carry a mark of his own?"""
    found, own = _found(completions, records, users)
    return [
        float(carried) if owner else None
        for carried, owner in zip((found & own).any(axis=0), own.any(axis=0), strict=True)
    ]


REWARDS: Mapping[str, Callable[..., Sequence[float | None]]] = {
    "keeps_apart": keeps_apart,
    "relevant": relevant,
    "personal": personal,
}


def reward_functions(names: Sequence[str], users: Sequence[User]) -> list[Callable]:
    """The rewards of these names; `users` are all whose marks must stay with them."""
    return [functools.partial(REWARDS[name], users=tuple(users)) for name in names]


def _found(
    completions: Sequence[Completion], records: Sequence[Record], users: Sequence[User]
) -> tuple[np.ndarray, np.ndarray]:
    """Of users and answers: whether it carries his mark, and whether he is the one answered."""
    found = hits(users, [completion.text for completion in completions])
    own = np.array([[record["user"] == user.id for record in records] for user in users])
    return found, own
