"""What is kept of an enrolled user: counts of terms, never a text.

Counts still tell something of what was written (which pairs of letters, which function words), so
an enrolment is a user's data, to be deleted with the rest of it.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.persona_leakage.fingerprint.corpus import plain
from experiments.persona_leakage.fingerprint.features import Features
from experiments.persona_leakage.fingerprint.gate import Gate, decide
from experiments.persona_leakage.fingerprint.scorers import Sample
from experiments.persona_leakage.fingerprint.verifier import (
    Verifier,
    gate_at,
    probability,
    sample_of,
)
from gdpo_jax.errors import UserError

__all__ = [
    "Enrolment",
    "enrol",
    "forget",
    "from_record",
    "identify",
    "score",
    "to_record",
    "update",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Enrolment:
    """counts: number by column of the features; only those that are not 0
    texts, characters: how many went into it
    features: digest of the features whose columns these are
    """

    user: str
    texts: int
    characters: int
    counts: tuple[tuple[int, int], ...]
    features: str


def enrol(verifier: Verifier, user: str, texts: Sequence[str]) -> Enrolment:
    """An enrolment of a user by texts of his. Raises UserError if none of them holds anything."""
    empty = Enrolment(
        user=user, texts=0, characters=0, counts=(), features=digest(verifier.features)
    )
    return update(verifier, empty, texts)


def update(verifier: Verifier, enrolment: Enrolment, texts: Sequence[str]) -> Enrolment:
    """The enrolment with new texts of its user; the order of texts does not matter.

    Raises UserError if none of them holds anything, and for an enrolment of other features.
    """
    _check(verifier, enrolment)
    texts = [text for text in texts if plain(text)]
    sample = sample_of(verifier.features, texts)
    counts = dict(enrolment.counts)
    for column in np.flatnonzero(sample.counts):
        counts[int(column)] = counts.get(int(column), 0) + int(sample.counts[column])
    return dataclasses.replace(
        enrolment,
        texts=enrolment.texts + len(texts),
        characters=enrolment.characters + sample.characters,
        counts=tuple(sorted(counts.items())),
    )


def score(verifier: Verifier, enrolment: Enrolment, text: str) -> float:
    """The probability, in [0, 1], that the enrolled user wrote the text; 0 for an empty one.

    Raises UserError for an enrolment of other features.
    """
    _check(verifier, enrolment)
    if not plain(text):
        return 0.0  # nothing was said that could be recognised
    counts = np.zeros(sum(len(view.terms) for view in verifier.features.views), np.float32)
    for column, number in enrolment.counts:
        counts[column] = number
    known = Sample(counts=counts, characters=enrolment.characters)
    return probability(verifier, known, sample_of(verifier.features, [text]))


def identify(
    verifier: Verifier, enrolments: Sequence[Enrolment], text: str, gate: Gate | None = None
) -> str | None:
    """Whose text it is: the user with the best score, if the gate opens for him; else None.

    None as well where two users share the best score: neither may be given what is the other's.
    gate: the verifier's own for texts of this length unless given.

    Raises UserError for an enrolment of other features.
    """
    scores = sorted(
        ((score(verifier, enrolment, text), enrolment.user) for enrolment in enrolments),
        reverse=True,
    )
    gate = gate or gate_at(verifier, len(plain(text)))
    if not scores or decide(gate, scores[0][0]) is not True:
        return None
    if len(scores) > 1 and scores[1][0] == scores[0][0]:
        return None
    return scores[0][1]


def forget(enrolments: Sequence[Enrolment], user: str) -> tuple[Enrolment, ...]:
    """The enrolments without that of a user. Raises UserError if he has none.

    A verifier that was fitted on texts of his still holds counts of them: fit it on other people.
    """
    left = tuple(enrolment for enrolment in enrolments if enrolment.user != user)
    if len(left) == len(enrolments):
        raise UserError(f"user {user!r} has no enrolment")
    return left


def to_record(enrolment: Enrolment) -> dict[str, Any]:
    """The enrolment as a value of JSON."""
    return {
        **dataclasses.asdict(enrolment),
        "counts": [[column, number] for column, number in enrolment.counts],
    }


def from_record(record: Mapping[str, Any]) -> Enrolment:
    """The enrolment of a value that `to_record` made.

    Raises UserError that names the user and the field for anything else.
    """
    user = record.get("user")
    where = f"enrolment of {user!r}"
    names = {field.name for field in dataclasses.fields(Enrolment)}
    if wrong := sorted(names ^ set(record)):
        raise UserError(f"{where}: field {wrong[0]!r} is missing, or unknown; enrol the user again")
    for name, kind in {"user": str, "features": str, "texts": int, "characters": int}.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise UserError(f"{where}: {name!r} is {record[name]!r}, not a {kind.__name__}")
    counts = record["counts"]
    if not isinstance(counts, list) or not all(_is_count(pair) for pair in counts):
        raise UserError(f"{where}: 'counts' must be a list of column and number, both from 0 on")
    return Enrolment(
        user=record["user"],
        texts=record["texts"],
        characters=record["characters"],
        counts=tuple((column, number) for column, number in counts),
        features=record["features"],
    )


def digest(features: Features) -> str:
    """A short digest of what is counted, the same on every machine."""
    parts = [sorted(features.kept), *([view.name, *view.terms] for view in features.views)]
    text = "\x1e".join("\x1f".join(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(verifier: Verifier, enrolment: Enrolment) -> None:
    if enrolment.features != digest(verifier.features):
        raise UserError(
            f"the enrolment of {enrolment.user!r} was made with another verifier; enrol the user "
            "again with this one"
        )


def _is_count(pair: object) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(number, int) and number >= 0 for number in pair)
    )
