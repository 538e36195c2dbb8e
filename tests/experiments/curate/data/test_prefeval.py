"""PrefEval's files: three forms, their traps, distractors; the published ones where present."""

import json
from collections import Counter

import pytest

from experiments.common.files.json_rows import write_rows
from experiments.curate.data.distractors import own_distractors, read_distractors
from experiments.curate.data.prefeval import prefeval_cases, topics_of
from gdpo_jax.errors import UserError

ROWS = [
    {"preference": f"I dislike {n}.", "question": f"What of {n}?", "explanation": f"Why {n}"}
    for n in range(12)
]
CHOICE = {
    "query": "Where to?",
    "assistant_options": "Here or there.",
    "user_selection": "There.",
    "assistant_acknowledgment": "Fine.",
}
# Eleven exchanges: in the order of numbers 10 comes last, in that of texts behind 1.
PERSONA = {str(n): {"user": f"u{n}", "assistant": f"a{n}"} for n in (10, *range(10))}
FOLDERS = {
    "explicit": "explicit_preference",
    "choice-based": "implicit_preference/choice-based",
    "persona-driven": "implicit_preference/persona-driven",
}


def put(folder, name, rows, topic="pets"):
    path = folder / name / f"{topic}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


@pytest.fixture
def folder(tmp_path):
    put(tmp_path, FOLDERS["explicit"], ROWS)
    put(tmp_path, FOLDERS["explicit"], ROWS[:2], topic="cars")
    put(tmp_path, FOLDERS["choice-based"], [{**row, "conversation": CHOICE} for row in ROWS])
    put(tmp_path, FOLDERS["persona-driven"], [{**row, "conversation": PERSONA} for row in ROWS])
    # The wording differs here, as it does in the published files: rows are joined by position.
    options = [
        {"preference": "other", "classification_task_options": [f"right {n}", "b", "c", "d"]}
        for n in range(12)
    ]
    put(tmp_path, "mcq_options", options)
    return tmp_path


def test_explicit(folder):
    distractors = own_distractors(2)
    cases = prefeval_cases(folder, "explicit", distractors=distractors)
    assert [case.case.id for case in cases[:3]] == [
        "prefeval-explicit-2/cars-000",
        "prefeval-explicit-2/cars-001",
        "prefeval-explicit-2/pets-000",
    ]
    last = cases[-1]
    between = tuple(user for user, _ in distractors)
    assert last.case.turns == ("I dislike 11.", *between, "What of 11?")
    assert last.given == ("", *(answer for _, answer in distractors))
    assert (last.case.constraint, last.case.category) == ("I dislike 11.", "pets")
    assert last.explanation == "Why 11" and not last.case.control
    assert cases[0].options == () and cases[0].right == -1  # no options for this topic


def test_choice_based(folder):
    case = prefeval_cases(folder, "choice-based", distractors=[("x?", "y.")])[0]
    assert case.case.turns == ("Where to?", "There.", "x?", "What of 0?")
    assert case.given == ("Here or there.", "Fine.", "y.")


def test_persona_driven_in_the_order_of_numbers(folder):
    case = prefeval_cases(folder, "persona-driven")[3]
    assert case.case.turns == (*(f"u{n}" for n in range(11)), "What of 3?")
    assert case.given == tuple(f"a{n}" for n in range(11))


def test_options_are_shuffled_and_the_right_one_is_known(folder):
    cases = prefeval_cases(folder, "explicit", topics=["pets"], seed=4)
    for number, case in enumerate(cases):
        assert sorted(case.options) == ["b", "c", "d", f"right {number}"]
        assert case.options[case.right] == f"right {number}"
    assert len({case.right for case in cases}) > 1
    again = prefeval_cases(folder, "explicit", seed=4)  # whatever else is read
    assert [case.options for case in again[2:]] == [case.options for case in cases]
    assert cases != prefeval_cases(folder, "explicit", topics=["pets"], seed=5)


def test_a_row_without_explanation_and_one_with_more(folder):
    rows = [{k: v for k, v in ROWS[0].items() if k != "explanation"}, {**ROWS[1], "fix": "True"}]
    put(folder, FOLDERS["explicit"], rows, topic="cars")
    cases = prefeval_cases(folder, topics=["cars"])
    assert [case.explanation for case in cases] == ["", "Why 1"]


@pytest.mark.parametrize(
    ("name", "rows", "form", "message"),
    [
        ("explicit_preference", [{"preference": "p"}], "explicit", "row 0, field 'question'"),
        (FOLDERS["choice-based"], ROWS, "choice-based", "row 0, field 'conversation': expected an"),
        (
            FOLDERS["choice-based"],
            [{**ROWS[0], "conversation": {"query": "q"}}],
            "choice-based",
            "field 'conversation', field 'assistant_options'",
        ),
        (
            FOLDERS["persona-driven"],
            [{**ROWS[0], "conversation": {"a": {}}}],
            "persona-driven",
            "expected exchanges '0'",
        ),
        (
            FOLDERS["persona-driven"],
            [{**ROWS[0], "conversation": {"0": {"user": "u"}}}],
            "persona-driven",
            "exchange 0, field 'assistant'",
        ),
        ("mcq_options", ROWS, "explicit", "mcq_options.*row 0, field 'classification_task_opt"),
        (
            "mcq_options",
            [{"classification_task_options": ["a", "b", "c", "d"]}],
            "explicit",
            "has 1 rows, the topic has 12",
        ),
    ],
)
def test_damaged_files(folder, name, rows, form, message):
    if name != "mcq_options":
        (folder / "mcq_options" / "pets.json").unlink()
    put(folder, name, rows)
    with pytest.raises(UserError, match=message):
        prefeval_cases(folder, form, topics=["pets"])


def test_unknown_forms_topics_and_folders(folder, tmp_path):
    with pytest.raises(UserError, match="no form 'mcq'"):
        topics_of(folder, "mcq")
    with pytest.raises(UserError, match="no topic 'bikes' in the explicit form; there are cars"):
        prefeval_cases(folder, topics=["bikes"])
    with pytest.raises(UserError, match=r"no \*\.json in .*give the folder `benchmark_dataset`"):
        prefeval_cases(tmp_path / "nowhere")


@pytest.mark.parametrize("count", [0, 1, 60, 300])
def test_own_distractors(count):
    found = own_distractors(count, seed=1)
    assert len({question for question, _ in found}) == len(found) == count
    assert own_distractors(400, seed=1)[:count] == found
    for question, answer in found:
        assert question and answer
        if "plus" in question:
            a, b = (int(word) for word in question.rstrip("?").split() if word.isdecimal())
            assert answer == f"{a} plus {b} is {a + b}."


def test_distractors_of_a_file(tmp_path):
    def message(role, text):
        return {"role": role, "content": text}

    chat = [message("user", "a"), message("user", "b"), message("assistant", "c")]
    other = [message("assistant", "d"), message("user", "e"), message("assistant", "f")]
    path = tmp_path / "chats.json"
    write_rows(path.with_suffix(".jsonl"), [{"conversation": chat, "turn": 9}])
    path.write_text(json.dumps([{"conversation": chat, "turn": 9}, {"conversation": other}]))
    assert read_distractors(path, 2) == (("b", "c"), ("e", "f"))
    assert read_distractors(path, 0) == ()
    assert read_distractors(path.with_suffix(".jsonl"), 1) == (("b", "c"),)
    with pytest.raises(UserError, match="has 2 exchanges, 3 are asked for"):
        read_distractors(path, 3)
    path.write_text(json.dumps([{"conversation": [message("user", 3)]}]))
    with pytest.raises(UserError, match="row 0, field 'conversation', message 0: expected role"):
        read_distractors(path, 1)
    path.write_text(json.dumps([{"turn": 3}]))
    with pytest.raises(UserError, match="row 0, field 'conversation': expected a list"):
        read_distractors(path, 1)


@pytest.mark.parametrize("count", [-1, 10_001])
def test_distractor_counts(count, tmp_path):
    with pytest.raises(UserError, match="distractor exchanges"):
        own_distractors(count)
    if count < 0:
        with pytest.raises(UserError, match="distractor exchanges"):
            read_distractors(tmp_path / "nowhere.json", count)


@pytest.fixture(scope="module")
def published(reference_file):
    return reference_file("prefeval/explicit_preference/pet_ownership.json").parents[1]


def test_the_published_files(published):
    explicit = prefeval_cases(published)
    assert len(explicit) == 1000 and len(topics_of(published, "explicit")) == 20
    assert [c.case.id for c in explicit if not c.explanation] == [
        "prefeval-explicit-0/travel_hotel-052"
    ]
    assert sum(bool(case.options) for case in explicit) == 334
    right = Counter(case.right for case in explicit if case.options)
    assert all(60 < right[place] < 110 for place in range(4))
    choice = prefeval_cases(published, "choice-based")
    persona = prefeval_cases(published, "persona-driven")
    assert len(choice) == len(persona) == 334
    assert {len(case.given) for case in choice} == {2}
    lengths = [len(case.given) for case in persona]
    assert sum(lengths) == 1755 and (min(lengths), max(lengths)) == (4, 7)
    for form in (choice, persona):
        assert len({case.case.id for case in form}) == 334
        questions = {case.case.turns[-1] for case in explicit}
        assert {case.case.turns[-1] for case in form} <= questions
