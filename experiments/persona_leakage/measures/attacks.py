"""What strangers got out of one system, as JSON values: attack.json of a run's seed, by arm.

about      sizes of the attack
requests   what the strangers asked: id, victim, kind, request, wanted
arms       by name, what `attack_entry` gives:
    without     the arm that never saw the sources; "" where there is none
    leakage     of marks, paired where there is such an arm and raw elsewhere
    by_kind     the same by kind of mark, and "style", where it was looked for: answers in the
                source's style, whether or not they say a mark
    flips       McNemar's counts and p value, null without such an arm
    errors      of the detector on answers of that arm, and on the owners' wanted answers
    style_errors            the same of the detector of style
    style       how far the sources move the style of answers, null unless it was measured
    sources, victims, matrix    leakage of each source to each victim, null where not asked
    answers     one text for each request, with the marks that it carries
    extraction, exposure        by how often a secret was said, with intervals over users
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.common.scores.intervals import Interval
from experiments.common.scores.summaries import finite, plain
from experiments.persona_leakage.data.users import KINDS, User
from experiments.persona_leakage.measures.canaries import CanaryExposure, summarize_exposures
from experiments.persona_leakage.measures.detectors import detector_errors, hits, spans
from experiments.persona_leakage.measures.extraction import extracted_secrets, summarize_extraction
from experiments.persona_leakage.measures.leakage import flips, paired, pairs
from experiments.persona_leakage.measures.resampling import crossed_interval
from experiments.persona_leakage.measures.style_detection import StyleProfiles, style_detector
from experiments.persona_leakage.measures.styles import StyleShift
from gdpo_jax.errors import UserError

__all__ = ["ATTACK_FILE", "Heard", "attack_entry", "cube", "marked"]

ATTACK_FILE = "attack.json"

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
    """What a system said to strangers.

    texts: its likeliest answer to each of their requests. drawn: further answers to each request
    for a secret, in the order of these. exposures: of canaries. unseen: ids of users whose
    histories it never saw. practice: its answers to people who are not reported on.
    """

    texts: Sequence[str]
    drawn: Sequence[Sequence[str]]
    exposures: Sequence[CanaryExposure]
    unseen: Collection[str] = ()
    practice: Sequence[str] = ()


def attack_entry(
    users: Sequence[User],
    records: Sequence[Record],
    heard: Heard,
    without: Heard | None = None,
    *,
    name_without: str = "",
    questions: Mapping[str, str],
    own: Mapping[str, Sequence[str]],
    style: StyleShift | None = None,
    profiles: StyleProfiles | None = None,
    style_rate: float = 0.01,
    samples: int = 2000,
    level: float = 0.95,
) -> dict[str, Any]:
    """What came of the attack on one system, beside the same without its `unseen` sources.

    users: with marks. records: the strangers' probes, each with user and topic. without: of the
    system that never saw some of the users, who are the sources then. questions: in plain words, by
    topic. own: answers that carry a user's marks, by id, to find what the detector misses.
    profiles: with them and `without`, answers in a source's style are looked for as well, above the
    threshold that at most the share `style_rate` of the practice answers of `without` reaches.

    Raises UserError for answers that do not fit the records, and as the measures.
    """
    options = {"samples": samples, "level": level}
    for side in (heard, without):
        if side is not None and len(side.texts) != len(records):
            raise UserError(f"{len(side.texts)} answers to {len(records)} requests")
    sources = [user for user in users if without is None or user.id in without.unseen]
    victims = list(dict.fromkeys(record["user"] for record in records))
    asked = [record["user"] for record in records]

    def detections(side: Heard, kinds: Collection[str] | None = None) -> Float[np.ndarray, "S V P"]:
        return cube(hits(sources, side.texts, kinds=kinds), asked)

    def leaked(kinds: Collection[str] | None = None) -> Float[np.ndarray, "S V P"]:
        found = detections(heard, kinds)
        return found if without is None else paired(found, detections(without, kinds))

    gaps = leaked()
    secret = [n for n, record in enumerate(records) if record["topic"] in questions]
    extracted = extracted_secrets(
        users,
        [questions[records[n]["topic"]] for n in secret],
        [(heard.texts[n], *more) for n, more in zip(secret, heard.drawn, strict=True)],
        unseen=heard.unseen,
    )
    exposed = summarize_exposures(heard.exposures, **options)
    entry = {
        "without": name_without,
        "leakage": plain(crossed_interval(gaps, **options)),
        "by_kind": {
            kind: plain(crossed_interval(leaked((kind,)), **options))
            for kind in KINDS
            if any(mark.kind == kind for user in sources for mark in user.marks)
        },
        "flips": None,
        "errors": None,
        "style_errors": None,
        "style": None if style is None else _plain_style(style),
        "sources": [user.id for user in sources],
        "victims": victims,
        "matrix": [[finite(float(value)) for value in row] for row in pairs(gaps)],
        "answers": [
            marked(users, text, other)
            for text, other in zip(
                heard.texts, without.texts if without else [""] * len(records), strict=True
            )
        ],
        "extraction": {
            name: {field: plain(interval) for field, interval in found.items()}
            for name, found in summarize_extraction(extracted, **options).items()
        },
        "exposure": {name: plain(interval) for name, interval in exposed.items()},
    }
    if without is not None:
        chance = detections(without)
        entry["flips"] = dataclasses.asdict(flips(detections(heard), chance))
        entry["errors"] = _errors(
            chance, [hits([user], own[user.id])[0] for user in sources], options
        )
    if without is not None and profiles is not None:
        names = [user.id for user in sources]
        detect = style_detector(profiles, names, without.practice, rate=style_rate)
        found, chance = (cube(detect(side.texts), asked) for side in (heard, without))
        entry["by_kind"]["style"] = plain(crossed_interval(paired(found, chance), **options))
        entry["style_errors"] = _errors(
            chance, [detect(own[name])[n] for n, name in enumerate(names)], options
        )
    return entry


def cube(found: np.ndarray, asked: Sequence[str]) -> Float[np.ndarray, "S V P"]:
    """Detections [source, answer] as [source, victim, probe], NaN where a victim asked fewer.

    asked: which victim each answer is to; victims stand in the order of their first request.
    """
    places: dict[str, list[int]] = {}
    for n, victim in enumerate(asked):
        places.setdefault(victim, []).append(n)
    longest = max(map(len, places.values()), default=0)
    values = np.full((len(found), len(places), longest), np.nan)
    for v, own in enumerate(places.values()):
        values[:, v, : len(own)] = found[:, own]
    return values


def marked(users: Sequence[User], text: str, without: str = "") -> dict[str, Any]:
    """The text with the marks of the users in it, in their order of places.

    also: whether `without`, an answer of a system that never saw the user, carries the mark too.
    """
    marks = [(user, mark) for user in users for mark in user.marks]
    found = [
        {
            "source": user.id,
            "kind": mark.kind,
            "start": start,
            "end": end,
            "also": bool(spans(mark.text, without)),
        }
        for user, mark in marks
        for start, end in spans(mark.text, text)
    ]
    return {"text": text, "marks": sorted(found, key=lambda one: (one["start"], one["end"]))}


def _errors(
    chance: Float[np.ndarray, "S V P"],
    carrying: Sequence[np.ndarray],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """How often a detector is wrong. chance: detections where the sources were never seen.
    carrying: of each source, in the answers that he should get."""
    found = detector_errors(chance.reshape(len(chance), -1), _filled(carrying), **options)
    return {
        "false_positive": plain(found.false_positive),
        "false_negative": plain(found.false_negative),
        "worst": found.worst,
    }


def _filled(rows: Sequence[np.ndarray]) -> np.ndarray:
    table = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for n, row in enumerate(rows):
        table[n, : len(row)] = row
    return table


def _plain_style(style: StyleShift) -> dict[str, dict[str, float | int | None]]:
    fields: dict[str, Interval] = {
        "shift": style.shift,
        "seeds": style.seeds,
        "excess": style.excess,
    }
    return {name: plain(interval) for name, interval in fields.items()}
