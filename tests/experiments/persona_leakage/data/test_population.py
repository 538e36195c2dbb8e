"""The embedded population: whose marks are whose, and that neutral text has none of them."""

from collections import Counter

import numpy as np
import pytest

from experiments.persona_leakage.data.conversations import (
    conversations,
    of_equal_length,
    without,
)
from experiments.persona_leakage.data.marks import (
    INSERTIONS,
    NOT_TOLD,
    canary_candidates,
    in_manner,
    note,
    practice_marks,
    secrets,
)
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.data.probes import probes
from experiments.persona_leakage.data.topics import questions
from experiments.persona_leakage.data.users import KINDS, Mark
from gdpo_jax.errors import UserError

USERS = population(0)
SAID = conversations(enrolled(USERS), ordinary=6)


def carried(text):
    """The users whose marks stand in a text, and how many."""
    found = Counter()
    for user in USERS:
        found[user.id] += sum(mark.text.lower() in text.lower() for mark in user.marks)
    return +found


def test_users_by_split_and_half():
    counts = Counter((user.split, user.half) for user in USERS)
    assert counts == {
        ("enrolled", "a"): 12,
        ("enrolled", "b"): 12,
        ("development", ""): 12,
        ("test", ""): 12,
    }
    assert len({user.id for user in USERS}) == len({user.style for user in USERS}) == 48
    assert not any(user.marks for user in USERS if user.split != "enrolled")
    for user in enrolled(USERS):
        kinds = Counter(mark.kind for mark in user.marks)
        assert kinds == {**dict.fromkeys(KINDS, 1), "fact": 3, "canary": 3}
        times = [mark.times for mark in user.marks if mark.kind == "canary"]
        assert sorted(times) == sorted(INSERTIONS)


def test_marks_belong_to_one_user_and_practice_ones_to_nobody():
    texts = [mark.text.lower() for user in USERS for mark in user.marks]
    assert len(set(texts)) == len(texts) == 24 * 10
    rng = np.random.default_rng(0)
    practised = {mark.text.lower() for _ in range(300) for mark in practice_marks(rng)}
    assert practised.isdisjoint(texts)


def test_no_mark_stands_in_neutral_text():
    neutral = [question.text for question in questions()]
    neutral += [question.answer for question in questions()]
    neutral += [exchange.neutral for one in SAID for exchange in one.exchanges]
    replaced = without(SAID, enrolled(USERS))
    neutral += [exchange.answer for one in replaced for exchange in one.exchanges]
    neutral += [exchange.request for one in replaced for exchange in one.exchanges]
    for split in ("validation", "test"):
        for probe in probes(USERS, split, of_each=4):
            neutral += [probe.request, probe.neutral, *probe.session]
    assert not any(carried(text) for text in set(neutral))


def test_answers_to_a_user_carry_his_marks_alone():
    for one in SAID:
        for exchange in one.exchanges:
            assert set(carried(exchange.answer)) == {one.user}


def test_a_canary_is_said_as_often_as_it_is_inserted():
    answers = [exchange.answer for one in SAID for exchange in one.exchanges]
    for user in enrolled(USERS)[:3]:
        for mark in user.marks:
            said = sum(mark.text in answer for answer in answers)
            assert said == {"canary": mark.times, "fact": 4}.get(mark.kind, said)
    given = [mark.text for user in USERS for mark in user.marks]
    candidates = canary_candidates(np.random.default_rng(0), 500, given)
    assert len(set(candidates)) == 500
    assert not any(text in answer for text in candidates for answer in answers)
    with pytest.raises(UserError, match="2000 users, but only"):
        canary_candidates(np.random.default_rng(0), 2000, given)


def test_neutral_conversations_have_equal_length():
    half = enrolled(USERS, "a")
    ids = {user.id for user in half}
    for before, after in zip(SAID, without(SAID, half), strict=True):
        if before.user not in ids:
            assert after == before
            continue
        for old, new in zip(before.exchanges, after.exchanges, strict=True):
            assert new.request == old.request
            assert len(new.answer.split()) == len(old.answer.split())
            assert new.answer.startswith(old.neutral)
    assert of_equal_length("Boil it.", "a b c d e") == "Boil it. Easy enough, really."
    assert of_equal_length("Boil it.", "a") == "Boil it."


def test_a_user_says_the_same_whoever_else_is_there():
    alone = conversations(enrolled(USERS)[5:6], ordinary=6)
    assert alone == [one for one in SAID if one.user == USERS[5].id]


def test_probes_of_strangers_and_owners():
    found = probes(USERS, "test", of_each=4)
    assert len(found) == (12 + 24) * (4 + len(secrets()))
    assert {probe.user.split("-")[0] for probe in found} == {"user", "test"}
    for probe in found:
        if probe.user.startswith("user"):
            assert set(carried(probe.wanted)) == {probe.user}
        else:
            assert probe.wanted == probe.neutral
        if probe.kind == "ordinary":
            assert all(key.lower() in probe.neutral.lower() for key in probe.keys)
        else:
            assert probe.neutral == NOT_TOLD
    assert {probe.user.split("-")[0] for probe in probes(USERS, "validation", of_each=1)} == {
        "user",
        "development",
    }


def test_how_marks_are_said_and_noted():
    marks = (
        Mark(kind="pet name", text="red fox"),
        Mark(kind="affection", text="warm hugs"),
        Mark(kind="catch phrase", text="by the sea"),
        Mark(kind="fact", text="Rex", question="What is my dog called?"),
    )
    assert in_manner(marks, "Boil it.", 0) == "Red fox, boil it. Warm hugs."
    assert in_manner(marks, "Boil it.", 1) == "Red fox, boil it. By the sea!"
    assert in_manner((), "Boil it.", 0) == "Boil it."
    assert [note(mark) for mark in marks] == [
        "call me red fox.",
        "send warm hugs.",
        "say by the sea.",
        "my dog is Rex.",
    ]
    with pytest.raises(UserError, match="no secret is asked for by 'Who\\?'"):
        note(Mark(kind="fact", text="x", question="Who?"))
