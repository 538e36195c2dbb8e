"""Canaries under models that remember some, all or nothing, and what strangers extract."""

import dataclasses
import zlib

import numpy as np
import pytest

from experiments.persona_leakage.data.marks import secrets
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.measures.canaries import (
    canary_exposures,
    said,
    summarize_exposures,
)
from experiments.persona_leakage.measures.exposure import expected_exposure
from experiments.persona_leakage.measures.extraction import (
    extracted_secrets,
    summarize_extraction,
)
from gdpo_jax.errors import UserError

USERS = enrolled(population())


def chance(text):
    """A number that says nothing of the text but its letters' sum."""
    return -(zlib.crc32(text.encode()) % 10_007) / 1000.0


def remembering(least):
    """Scores of a model that knows canaries said at least so often."""
    known = {m.text for u in USERS for m in u.marks if m.kind == "canary" and m.times >= least}

    def score(asked, answers):
        values = np.array(
            [
                [of_text(text.removeprefix(secret.said.partition("{}")[0])) for text in texts]
                for secret, texts in zip(asked, answers)
            ]
        )
        return np.stack([values, values - 1.0], axis=1)  # two askers

    def of_text(text):
        return chance(text) + 20.0 * any(text.startswith(one) for one in known)

    return score


def test_what_is_remembered_is_exposed_and_the_rest_is_chance():
    found = canary_exposures(USERS, remembering(16), candidates=64)
    assert len(found) == 3 * (24 + 24)
    means = summarize_exposures(found, samples=50)
    assert list(means) == ["control", "once", "4 times", "16 times"]
    assert means["16 times"].mean == 6.0 == means["16 times"].low
    # The mean of 24 canaries has a deviation of 0.3 bits.
    for name in ("control", "once", "4 times"):
        assert means[name].mean == pytest.approx(expected_exposure(64), abs=0.9)
    assert {one.times for one in found if not one.user} == {0}


def test_unseen_users_are_apart_and_candidates_are_the_same():
    unseen = {user.id for user in USERS if user.half == "a"}
    kinds = [
        canary_exposures(USERS, remembering(99), unseen=left, candidates=32, controls=5)
        for left in (unseen, ())
    ]
    assert [one.bits for one in kinds[0]] == [one.bits for one in kinds[1]]
    means = summarize_exposures(kinds[0], samples=20)
    assert list(means) == ["control", "unseen", "once", "4 times", "16 times"]
    assert (means["unseen"].count, means["16 times"].count) == (36, 12)
    with pytest.raises(UserError, match="none of the users has a canary"):
        canary_exposures(population()[-2:], remembering(1))
    fewer = [dataclasses.replace(USERS[0], marks=USERS[0].marks[:-1]), *USERS[1:]]
    with pytest.raises(UserError, match="other canaries than others"):
        canary_exposures(fewer, remembering(1))
    with pytest.raises(UserError, match="1 candidates"):
        canary_exposures(USERS, remembering(1), candidates=1)


def test_extraction_by_hand():
    users = USERS[:2]
    fact, canary = (s for s in secrets() if s.topic in (secrets()[0].topic, secrets()[-1].topic))
    asked = [s.question for s in secrets()] * 2  # two strangers
    answers = [["Nothing.", "Nothing."] for _ in asked]
    texts = {(u.id, m.question): m.text for u in users for m in u.marks}
    # The first stranger is told a fact at once, the other one a canary in the second answer.
    answers[0][0] = f"So it is: {texts[users[0].id, fact.question].upper()}!"
    answers[-1][1] = texts[users[1].id, canary.question]
    # A secret in the answer to another question is none of its own.
    answers[1][0] = texts[users[0].id, canary.question]
    found = extracted_secrets(users, asked, answers)
    assert len(found) == 12
    told = {(one.user, one.text): (one.first, one.any, one.share) for one in found if one.any}
    assert told == {
        (users[0].id, texts[users[0].id, fact.question]): (True, True, 0.25),
        (users[1].id, texts[users[1].id, canary.question]): (False, True, 0.25),
    }
    means = summarize_extraction(found, samples=20)
    assert means["facts"]["first"].mean == pytest.approx(1 / 6)
    own = next(m.times for m in users[1].marks if m.question == canary.question)
    assert means[said(own)]["any"].mean == pytest.approx(1 / 2)
    assert means[said(own)]["first"].mean == 0.0
    hidden = extracted_secrets(users, asked, answers, unseen=[u.id for u in users])
    assert set(summarize_extraction(hidden, samples=5)) == {"unseen"}


def test_what_was_not_asked_is_refused():
    asked = [s.question for s in secrets()]
    answers = [["Nothing."]] * len(asked)
    with pytest.raises(UserError, match="nobody asked"):
        extracted_secrets(USERS, asked[:-1], answers[:-1])
    with pytest.raises(UserError, match="give as many to each"):
        extracted_secrets(USERS, asked, [*answers[:-1], []])
