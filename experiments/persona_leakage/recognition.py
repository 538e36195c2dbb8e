"""Whom the verifier of writing takes a session for: the key of the arms that authenticate.

The verifier is fitted on invented writers who are nobody of the population, enrolments are made of
the requests in enrolled users' conversations, and the gate is chosen on sessions of validation:
owners' and those of development users. Sessions of test are only decided.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.persona_leakage.data.styles import draw_style
from experiments.persona_leakage.data.topics import questions
from experiments.persona_leakage.data.users import Style, write
from experiments.persona_leakage.fingerprint.gate import Gate, choose_gate, decide
from experiments.persona_leakage.fingerprint.problems import Problem
from experiments.persona_leakage.fingerprint.scorers import Sample
from experiments.persona_leakage.fingerprint.verifier import (
    Verifier,
    fit,
    probability,
    sample_of,
)

__all__ = ["Recognised", "recognise"]

Row = Mapping[str, Any]
Session = tuple[str, ...]

_KNOWN = 16  # messages of each that count as known; a session has three
_ACCEPTED = 0.05  # share of strangers' sessions of validation that the gate lets in, at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recognised:
    """Whom sessions are taken for. validation, test: an id of an enrolled user for each probe, or
    "". genuine: scores of owners' test sessions with their own requests. impostor: of strangers'
    test sessions with the requests that fit best. gate: the score from which it opens.
    """

    validation: list[str]
    test: list[str]
    genuine: list[float]
    impostor: list[float]
    gate: float


def recognise(
    exchanges: Sequence[Row],
    validation: Sequence[Row],
    test: Sequence[Row],
    *,
    writers: int,
    seed: int,
) -> Recognised:
    """Whose writing each probe's session is taken for.

    exchanges: of enrolled users, whose requests are enrolled. writers: on whom the verifier is
    fitted. Raises UserError without scikit-learn, and as `fit` for fewer writers than it needs.
    """
    verifier = fit(_problems(writers, seed), folds=3, seed=seed).verifier
    known = _known(verifier, exchanges)
    sessions = dict.fromkeys(row["session"] for row in (*validation, *test))
    # Products of this size wait longer for other threads than they take.
    with _threadpoolctl().threadpool_limits(limits=1, user_api="blas"):
        scores = {session: _scores(verifier, known, session) for session in sessions}
    best = {session: _best(found) for session, found in scores.items()}
    gate = _gate(validation, best)

    def of(row: Row) -> str:
        user, value = best[row["session"]]
        return user if decide(gate, value) is True else ""

    asked = {row["session"]: row for row in test}
    return Recognised(
        validation=[of(row) for row in validation],
        test=[of(row) for row in test],
        genuine=[scores[s][row["user"]] for s, row in asked.items() if row["role"] == "owner"],
        impostor=[best[s][1] for s, row in asked.items() if row["role"] == "stranger"],
        gate=gate.threshold,
    )


def _threadpoolctl() -> Any:
    """The package that sets threads of NumPy's products, which scikit-learn brings along."""
    import threadpoolctl

    return threadpoolctl


def _problems(writers: int, seed: int) -> list[Problem]:
    """Two problems of each writer: a session of his own, and one of somebody else, each of whom
    writes in one problem alone."""
    rng = np.random.default_rng([seed, 6])
    styles = [draw_style(rng) for _ in range(2 * writers)]
    known = [_written(style, rng, _KNOWN) for style in styles[:writers]]
    problems = []
    for number, text in enumerate(known):
        for same, writer in ((True, number), (False, writers + number)):
            problems.append(
                Problem(
                    id=f"{number}/{same}",
                    known=(text,),
                    unknown=_written(styles[writer], rng, 3),
                    same=same,
                )
            )
    return problems


def _written(style: Style, rng: np.random.Generator, messages: int) -> str:
    asked = questions("train")
    chosen = rng.choice(len(asked), size=messages, replace=False)
    return _joined([write(style, asked[number].text, rng) for number in chosen])


def _known(verifier: Verifier, exchanges: Sequence[Row]) -> dict[str, Sample]:
    """What is counted of each enrolled user's requests."""
    texts: dict[str, list[str]] = {}
    for row in exchanges:
        texts.setdefault(row["user"], []).append(row["request"])
    return {user: sample_of(verifier.features, [_joined(own)]) for user, own in texts.items()}


def _scores(verifier: Verifier, known: Mapping[str, Sample], session: Session) -> dict[str, float]:
    """How well each user's requests fit."""
    # Every session is counted once, which `enrolment.score` would do for each user anew.
    sample = sample_of(verifier.features, [_joined(session)])
    return {user: probability(verifier, own, sample) for user, own in known.items()}


def _best(scores: Mapping[str, float]) -> tuple[str, float]:
    """Whose requests fit best, and how well; nobody's where two fit equally well."""
    top = max(scores.values())
    first = [user for user, value in scores.items() if value == top]
    return (first[0] if len(first) == 1 else ""), top


def _gate(validation: Sequence[Row], best: Mapping[Session, tuple[str, float]]) -> Gate:
    roles = {row["session"]: row["role"] for row in validation}
    values = {
        role: np.array([best[session][1] for session, whose in roles.items() if whose == role])
        for role in ("owner", "stranger")
    }
    return choose_gate(values["owner"], values["stranger"], acceptance=_ACCEPTED)


def _joined(messages: Sequence[str]) -> str:
    return "\n".join(messages)
