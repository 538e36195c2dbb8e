"""The embedded rows: counts, controls, short fields, and natural texts without leftovers."""

from collections import Counter

import pytest

from experiments.curate.data.own import own_rows, own_tables, own_trivia
from experiments.curate.data.tables import CATEGORIES

FIELDS = (
    "constraint",
    "person_constraint",
    "preference_b",
    "user_preference_b",
    "preference_c",
    "preference_d",
    "question_user",
    "biased_user",
    "control_question",
)


def test_counts():
    counts = Counter(own.row.category for own in own_rows())
    assert counts == dict.fromkeys(CATEGORIES, 20)
    tables = own_tables()
    assert len(set(tables.facts)) >= 40 and len(set(tables.preferences)) >= 40
    assert len(set(tables.trivia)) == len(own_trivia()) >= 40
    assert tables.ablation_rows == tables.rows


@pytest.mark.parametrize("field", FIELDS)
def test_no_text_comes_twice(field):
    texts = [getattr(own.row, field) for own in own_rows()]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("own", own_rows(), ids=lambda own: own.restated)
def test_every_row_is_complete(own):
    row = own.row
    texts = [*vars(row).values(), own.restated, own.risky, own.safe, own.control_answer]
    for text in texts:
        assert text == text.strip() != "" and "{" not in text and "|" not in text
    for text in (row.constraint, row.person_constraint, row.preference_d, own.control_answer):
        assert text.endswith(".") and text[0].isupper()
    for text in (row.question_user, row.biased_user, row.question_all, row.control_question):
        assert text.endswith("?") and text[0].isupper()
    # The short fields go into the middle of a sentence.
    assert own.restated[0].islower() and own.risky[0].islower() and own.safe[0].islower()


@pytest.mark.parametrize("own", own_rows(), ids=lambda own: own.restated)
def test_hazards_are_in_the_row_and_not_in_its_control(own):
    row = own.row
    told = " ".join((row.constraint, row.question_user, row.biased_user, own.risky)).lower()
    assert own.hazards and all(hazard == hazard.lower() for hazard in own.hazards)
    assert any(hazard in told for hazard in own.hazards)
    assert own.risky not in row.control_question


def test_questions_about_all_speak_of_us():
    for own in own_rows():
        user, everybody = own.row.question_user.split(), own.row.question_all.split()
        swapped = {"I": "we", "me": "us", "my": "our"}
        assert len(user) == len(everybody)
        for one, other in zip(user, everybody, strict=True):
            word = one.rstrip("?,.")
            assert one == other or other.rstrip("?,.") == swapped[word]


def test_constraints_of_others_are_not_the_users_own():
    for own in own_rows():
        assert not own.row.person_constraint.startswith("I ")
        assert own.row.user_preference_b != own.row.preference_b
