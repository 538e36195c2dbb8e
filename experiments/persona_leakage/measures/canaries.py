"""Exposure of the users' canaries under a model, beside canaries that nobody's history has.

The answer around a candidate is the same for all of them, and the question is in no way the
owner's. Each canary is ranked among candidates that nobody was given, and so are the controls,
which nobody was given either: what a control is exposed is chance (arXiv 1802.08232, section 4.2).
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence

import numpy as np
from jaxtyping import Float

from experiments.common.scores.intervals import Interval
from experiments.persona_leakage.data.marks import Secret, canary_candidates, secrets
from experiments.persona_leakage.data.users import User
from experiments.persona_leakage.measures.exposure import exposures
from experiments.persona_leakage.measures.resampling import by_user, user_interval
from gdpo_jax.errors import UserError

__all__ = ["CanaryExposure", "ScoreAnswers", "canary_exposures", "said", "summarize_exposures"]

# (secrets, as many full answers to each) -> log-probabilities [secret, asker, answer]
ScoreAnswers = Callable[[Sequence[Secret], Sequence[Sequence[str]]], Float[np.ndarray, "T A K"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CanaryExposure:
    """Bits of one canary, the mean over askers.

    user: empty of a control. times: how often it was said in the history that the model learnt
    from; 0 of a control, and of a user whose history the model never saw.
    """

    user: str
    text: str
    topic: str
    times: int
    bits: float


def canary_exposures(
    users: Sequence[User],
    score: ScoreAnswers,
    *,
    unseen: Collection[str] = (),
    candidates: int = 256,
    controls: int = 24,
    seed: int = 0,
) -> tuple[CanaryExposure, ...]:
    """The exposure of every canary of the users, and of `controls` others of each question.

    unseen: ids of users whose histories the model never saw. candidates: |R|, the canary included.
    The candidates are drawn by `seed` alone, so that two models are compared on the same ones.

    All are scored in one call. Raises UserError for fewer than two candidates, users without
    canaries or with others than the rest, and where there are not so many canaries.
    """
    if candidates < 2 or controls < 0:
        raise UserError(
            f"{candidates} candidates and {controls} controls; give at least 2 candidates and no "
            "fewer than 0 controls"
        )
    owned = [(user, mark) for user in users for mark in user.marks if mark.kind == "canary"]
    if not owned:
        raise UserError("none of the users has a canary")
    rng = np.random.default_rng([seed, 4])
    taken = [mark.text for _, mark in owned]
    asked = [secret for secret in secrets() if secret.kind == "canary"]
    about: list[list[tuple[str, str, int]]] = []  # of each secret: user, text, times
    answers = []
    for secret in asked:
        mine = [(user, mark) for user, mark in owned if mark.question == secret.question]
        drawn = canary_candidates(rng, candidates - 1 + controls, taken)
        own = [(u.id, mark.text, 0 if u.id in unseen else mark.times) for u, mark in mine]
        about.append([*own, *(("", text, 0) for text in drawn[:controls])])
        texts = [*(text for _, text, _ in about[-1]), *drawn[controls:]]
        answers.append([secret.said.format(text) for text in texts])
    if len(set(map(len, answers))) > 1:
        raise UserError("some users have other canaries than others; give all of them the same")
    found: list[CanaryExposure] = []
    for secret, ranked, log_probs in zip(asked, about, score(asked, answers), strict=True):
        for (user, text, times), bits in zip(
            ranked, _mean_exposures(log_probs, len(ranked)), strict=True
        ):
            one = {"user": user, "text": text, "topic": secret.topic, "times": times}
            found.append(CanaryExposure(**one, bits=float(bits)))
    return tuple(found)


def summarize_exposures(
    found: Sequence[CanaryExposure], *, samples: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Means with intervals over users: "control", "unseen", and counts such as "4 times".

    Controls are resampled one by one, since no user has them.
    """
    parts: dict[str, list[CanaryExposure]] = {}
    for one in sorted(found, key=lambda one: (one.times, one.user != "")):
        name = said(one.times) if one.times else "unseen" if one.user else "control"
        parts.setdefault(name, []).append(one)
    options = {"samples": samples, "level": level, "seed": seed}
    return {
        name: user_interval(
            by_user([one.bits for one in own], [one.user or one.text for one in own]), **options
        )
        for name, own in parts.items()
    }


def said(times: int) -> str:
    """How often a canary was said, as summaries call it."""
    return "once" if times == 1 else f"{times} times"


def _mean_exposures(log_probs: np.ndarray, ranked: int) -> np.ndarray:
    """Exposures [ranked] of the first columns, each among itself and the columns behind them."""
    askers, _ = log_probs.shape
    shape = (askers, ranked, log_probs.shape[1] - ranked)
    others = np.broadcast_to(log_probs[:, None, ranked:], shape)
    own = log_probs[:, :ranked, None]
    table = np.concatenate([own, others], axis=2).reshape(askers * ranked, -1)
    places = np.zeros(len(table), np.int64)
    return exposures(table, places).reshape(askers, ranked).mean(axis=0)
