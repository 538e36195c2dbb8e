"""What an attack comes to, from answers written by hand."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.persona_leakage.measures.attacks import attack_entry, cube, marked
from experiments.persona_leakage.measures.canaries import said
from experiments.persona_leakage.measures.style_detection import StyleProfiles
from gdpo_jax.errors import UserError
from tests.experiments.persona_leakage.attack_cases import (
    OWN,
    QUESTIONS,
    RECORDS,
    USERS,
    answers,
    heard,
)


def test_one_leak_by_hand():
    """One stranger of two is called by the first user's pet name, and once by his own chance."""
    pet = next(mark.text for mark in USERS[0].marks if mark.kind == "pet name")
    full, without = answers(), answers()
    full[0] = f"Take the bus, {pet.upper()}!"
    found = attack_entry(
        USERS,
        RECORDS,
        heard(full),
        heard(without, unseen=[user.id for user in USERS if user.half == "a"]),
        name_without="twin",
        questions=QUESTIONS,
        own=OWN,
        samples=50,
    )
    asked, sources = len(RECORDS) // 2, [user.id for user in USERS if user.half == "a"]
    assert found["sources"] == sources and len(found["victims"]) == 2
    assert found["matrix"][0] == [pytest.approx(1 / asked), 0.0]
    assert np.array(found["matrix"][1:]).tolist() == [[0.0, 0.0]] * (len(sources) - 1)
    assert found["leakage"]["mean"] == pytest.approx(1 / (2 * asked * len(sources)))
    assert found["by_kind"]["pet name"]["mean"] == found["leakage"]["mean"]
    assert found["by_kind"]["fact"]["mean"] == 0.0
    flipped = {name: found["flips"][name] for name in ("gained", "lost", "p_value")}
    assert flipped == {"gained": 1, "lost": 0, "p_value": 1.0}
    assert found["errors"]["false_positive"]["mean"] == 0.0
    assert found["errors"]["false_negative"]["mean"] == 0.0
    [mark] = found["answers"][0]["marks"]
    assert (mark["source"], mark["kind"], mark["also"]) == (USERS[0].id, "pet name", False)
    assert full[0][mark["start"] : mark["end"]] == pet.upper()
    assert all(not answer["marks"] for answer in found["answers"][1:])
    json.dumps(found, allow_nan=False)


def test_the_same_answers_leak_nothing_and_a_system_alone_has_no_pairs():
    canary = USERS[0].marks[-1]
    texts = answers()
    places = [n for n, r in enumerate(RECORDS) if QUESTIONS.get(r["topic"]) == canary.question]
    texts[places[0]] = f"It is {canary.text}."
    unseen = [USERS[0].id]
    both = attack_entry(USERS, RECORDS, heard(texts), heard(texts, unseen=unseen), own=OWN,
                        questions=QUESTIONS, samples=20)  # fmt: skip
    assert both["leakage"]["mean"] == 0.0 and both["sources"] == unseen
    assert both["answers"][places[0]]["marks"][0]["also"]
    assert both["errors"]["worst"] > 0.0
    alone = attack_entry(USERS, RECORDS, heard(texts), own=OWN, questions=QUESTIONS, samples=20)
    assert alone["leakage"]["mean"] > 0.0 and alone["flips"] is alone["errors"] is None
    assert len(alone["sources"]) == len(USERS)
    times = said(canary.times)
    own = [m for u in USERS for m in u.marks if m.times == canary.times]
    assert alone["extraction"][times]["first"]["mean"] == pytest.approx(1 / len(own))
    with pytest.raises(UserError, match="1 answers to"):
        attack_entry(USERS, RECORDS, heard(texts[:1]), own=OWN, questions=QUESTIONS)


def test_style_leaks_where_no_mark_is_said_and_marks_stay_the_headline():
    """Scores stand in the answers' last word; one answer of the full system is in a style."""
    sources = [user.id for user in USERS if user.half == "a"]

    def score(answers):
        found = np.zeros((len(USERS), len(answers)))
        found[0] = [float(text.split()[-1]) for text in answers]
        return found

    full, without = ([f"{text} 0.1" for text in answers()] for _ in range(2))
    full[0] = f"{full[0]} 0.9"
    own = {user: [*texts, ""] for user, texts in OWN.items()}
    own = {user: [f"{text} {n % 2}" for n, text in enumerate(texts)] for user, texts in own.items()}
    twin = dataclasses.replace(heard(without, unseen=sources), practice=["a 0.1"] * 98 + ["b 0.8"])
    found = attack_entry(
        USERS,
        RECORDS,
        heard(full),
        twin,
        questions=QUESTIONS,
        own=own,
        profiles=StyleProfiles(users=tuple(user.id for user in USERS), score=score),
        samples=20,
    )
    assert found["leakage"]["mean"] == 0.0
    assert found["by_kind"]["style"]["mean"] == pytest.approx(1 / (len(RECORDS) * len(sources)))
    errors = found["style_errors"]
    # Of the first user half of his own answers score 1; all scores of the others are 0, which is
    # above the threshold of none of them.
    share = np.mean([n % 2 for n in range(len(own[USERS[0].id]))])
    assert errors["false_positive"]["mean"] == 0.0
    assert errors["false_negative"]["mean"] == pytest.approx(1 - share / len(sources))
    json.dumps(found, allow_nan=False)


def test_a_cube_has_gaps_where_fewer_were_asked():
    found = cube(np.array([[1, 0, 1]]), ["v", "w", "v"])
    assert found.shape == (1, 2, 2)
    assert found[0, 0].tolist() == [1.0, 1.0]
    assert found[0, 1, 0] == 0.0 and np.isnan(found[0, 1, 1])
    assert cube(np.zeros((2, 0)), []).shape == (2, 0, 0)


def test_marks_stand_in_the_order_of_their_places():
    first, second = USERS[0].marks[0], USERS[1].marks[0]
    found = marked(USERS, f"{second.text}, {first.text}, {second.text}")["marks"]
    assert [mark["source"] for mark in found] == [USERS[1].id, USERS[0].id, USERS[1].id]
    assert marked(USERS, "nothing")["marks"] == []
