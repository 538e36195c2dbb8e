"""Verification problems out of what users wrote, to fit a verifier on messages like theirs."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.persona_leakage.fingerprint.corpus import plain
from experiments.persona_leakage.fingerprint.problems import Problem
from gdpo_jax.errors import UserError

__all__ = ["problems_of_users"]


def problems_of_users(
    messages: Mapping[str, Sequence[str]],
    *,
    known: int = 8,
    each: int = 4,
    rng: np.random.Generator,
) -> list[Problem]:
    """Problems of each user: `each` times a message of his, and as often one of somebody else's,
    beside `known` other messages of his. Fit them on users who are not enrolled.

    What several users wrote in the same words tells none of them apart and is left out.

    Raises UserError for fewer than two users, numbers below 1, and a user with too few messages.
    """
    if known < 1 or each < 1:
        raise UserError(f"known and each must be at least 1, got {known} and {each}")
    own = {user: list(dict.fromkeys(map(plain, texts))) for user, texts in messages.items()}
    writers = Counter(text for texts in own.values() for text in texts)
    own = {user: [t for t in texts if t and writers[t] == 1] for user, texts in own.items()}
    if len(own) < 2:
        raise UserError(f"problems need two users or more, got {len(own)}")
    for user, texts in own.items():
        if len(texts) <= known:
            raise UserError(
                f"user {user!r} has {len(texts)} messages of his own; problems need {known + 1}"
            )
    found = []
    for user, texts in own.items():
        others = [text for other, theirs in own.items() if other != user for text in theirs]
        for number in range(each):
            *chosen, unknown = (texts[i] for i in rng.permutation(len(texts))[: known + 1])
            stranger = others[rng.integers(len(others))]
            for same, text in ((True, unknown), (False, stranger)):
                name = f"{user}/{number}/{'same' if same else 'other'}"
                found.append(Problem(id=name, known=tuple(chosen), unknown=text, same=same))
    return found
