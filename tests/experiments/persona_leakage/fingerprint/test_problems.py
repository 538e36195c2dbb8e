"""Reading problems in PAN's form: marks and line ends are no text, and mistakes have a place."""

import json

import pytest

from experiments.persona_leakage.fingerprint.problems import (
    read_answers,
    read_problems,
    read_truth,
    write_answers,
)
from gdpo_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("EN01", "EN02"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "known01.txt").write_bytes(b"\xef\xbb\xbfOne text.\r\n")
        (tmp_path / name / "unknown.txt").write_text("Another text.")
    (tmp_path / "EN02" / "known02.txt").write_text("A third.")
    rows = [{"name": "EN01", "answer": "Y"}, {"name": "EN02", "answer": "N"}]
    (tmp_path / "truth.json").write_text(json.dumps({"problems": rows}))
    (tmp_path / "contents.json").write_text("{}")
    return tmp_path


def test_problems_with_their_truth(folder):
    first, second = read_problems(folder)
    assert (first.id, first.known, first.same) == ("EN01", ("One text.\r\n",), True)
    assert (second.known[1], second.unknown, second.same) == ("A third.", "Another text.", False)


def test_truth_as_text_and_none_at_all(folder):
    (folder / "truth.json").unlink()
    (folder / "truth.txt").write_bytes(b"\xef\xbb\xbfEN01 N\r\nEN02 Y\r\n")
    assert read_truth(folder) == {"EN01": False, "EN02": True}
    (folder / "truth.txt").unlink()
    with pytest.raises(UserError, match=r"neither truth\.json nor truth\.txt"):
        read_problems(folder)
    assert [problem.same for problem in read_problems(folder, truth=False)] == [None, None]


def remove_unknown(folder):
    (folder / "EN01" / "unknown.txt").unlink()


def remove_known(folder):
    (folder / "EN01" / "known01.txt").unlink()


def empty_text(folder):
    (folder / "EN02" / "known02.txt").write_text(" \n")


def other_truth(folder):
    (folder / "truth.json").write_text('{"problems": [{"name": "EN01", "answer": "Y"}]}')


def strange_answer(folder):
    (folder / "truth.json").write_text('{"problems": [{"name": "EN01", "answer": "maybe"}]}')


def twice(folder):
    row = {"name": "EN01", "answer": "Y"}
    (folder / "truth.json").write_text(json.dumps({"problems": [row, row]}))


def not_utf8(folder):
    (folder / "EN01" / "unknown.txt").write_bytes(b"caf\xe9")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_unknown, r"'EN01' has no unknown\.txt"),
        (remove_known, r"'EN01' has no known\*\.txt"),
        (empty_text, r"known02\.txt is empty; problem 'EN02'"),
        (other_truth, "problem 'EN02' has no answer in the truth"),
        (strange_answer, r"truth\.json, problem 0: problem 'EN01' has answer 'maybe'"),
        (twice, "problem 1: problem 'EN01' stands there twice"),
        (not_utf8, r"EN01/unknown\.txt, line 1 is not UTF-8"),
    ],
)
def test_a_mistake_has_a_place(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message):
        read_problems(folder)


def test_a_folder_of_something_else(folder):
    with pytest.raises(UserError, match="no folder"):
        read_problems(folder / "absent")
    with pytest.raises(UserError, match="has no problems"):
        read_problems(folder / "EN01")


@pytest.mark.parametrize("name", ["answers.txt", "answers.jsonl"])
def test_answers_come_back(tmp_path, name):
    answers = {"EN01": 0.25, "EN02": 0.5}
    write_answers(tmp_path / "out" / name, answers)
    assert read_answers(tmp_path / "out" / name) == answers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EN01 1.5", "line 1: '1.5' of 'EN01' is no score"),
        ("EN01 0.5\nEN01 0.5", "line 2: problem 'EN01' is answered twice"),
        ("EN01", "line 1: expected two words"),
        ('{"id": "EN01"}', "line 1: expected an object with 'id' and 'value'"),
    ],
)
def test_what_is_no_answer_is_named(tmp_path, text, message):
    (tmp_path / "answers.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_answers(tmp_path / "answers.txt")
