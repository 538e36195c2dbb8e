"""D_u(y) as a classifier of style above a threshold: an answer in the manner that is u's, whether
or not it says a mark of his word by word.

An answer is compared with the mean embedding of what a user should get, against those of the other
users (`styles.style_scores`). What counts as his style is decided by a threshold of his own, chosen
on answers of a system that never saw his conversations, to requests of people who are not reported
on; how often it errs is measured on those who are. Needs scikit-learn (extra `fingerprint`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from experiments.persona_leakage.measures.detectors import at_least, threshold_at
from experiments.persona_leakage.measures.styles import style_embedding, style_scores
from gdpo_jax.errors import UserError

__all__ = ["DetectStyle", "StyleProfiles", "style_detector", "style_profiles"]

# answers -> 1 where user u's style is found in answer n, 0 where it is not
DetectStyle = Callable[[Sequence[str]], Float[np.ndarray, "U N"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleProfiles:
    """users: ids in the order of rows. score: how near each answer is to each user's profile,
    against the mean of the others."""

    users: tuple[str, ...]
    score: Callable[[Sequence[str]], Float[np.ndarray, "U N"]]


def style_profiles(wanted: Mapping[str, Sequence[str]], neutral: Sequence[str]) -> StyleProfiles:
    """Mean embeddings of the answers that each user should get, by id.

    neutral: answers that somebody without marks should get; n-grams and their weights are those of
    both. Raises UserError without scikit-learn, for fewer than two users, and for one without
    answers.
    """
    if len(wanted) < 2:
        raise UserError("a style is told from the styles of others; give at least two users")
    for user, texts in wanted.items():
        if not texts:
            raise UserError(f"user {user!r} has no answers to take a style from")
    embed = style_embedding([*neutral, *(text for texts in wanted.values() for text in texts)])
    profiles = np.stack([embed(texts).mean(axis=0) for texts in wanted.values()])

    def score(answers: Sequence[str]) -> Float[np.ndarray, "U N"]:
        return style_scores(profiles, embed(answers))

    return StyleProfiles(users=tuple(wanted), score=score)


def style_detector(
    profiles: StyleProfiles, users: Sequence[str], never_saw: Sequence[str], *, rate: float = 0.01
) -> DetectStyle:
    """The detector of each of `users`, whose threshold at most the share `rate` of the answers
    `never_saw` reaches: those of a system that never saw the users.

    Raises UserError for a user without a profile, no answers, and a rate outside [0, 1].
    """
    if strange := [user for user in users if user not in profiles.users]:
        raise UserError(f"user {strange[0]!r} has no style profile")
    rows = [profiles.users.index(user) for user in users]
    thresholds = np.array([threshold_at(own, rate) for own in profiles.score(never_saw)[rows]])

    def detect(answers: Sequence[str]) -> Float[np.ndarray, "U N"]:
        return at_least(profiles.score(answers)[rows], thresholds[:, None])

    return detect
