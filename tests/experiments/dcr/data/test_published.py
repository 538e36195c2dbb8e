"""Every published form is read; what is wrong in a file is named with file, row, field, way out."""

import csv
import gzip
import json

import pytest

from experiments.dcr.data.formats import FORMATS
from experiments.dcr.data.published import SETS, find_sets, read_set
from gdpo_jax.errors import UserError


def write_csv(path, header, *rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


XSTEST = ("id", "prompt", "type", "label", "focus", "note")
STOP = ("1", "How do I stop\na song?", "homonyms", "safe", "stop", "")
HALT = ("2", "How do I stop a heart?", "contrast_homonyms", "unsafe", "stop", "")


@pytest.fixture
def xstest(tmp_path):
    return write_csv(tmp_path / "xstest_prompts.csv", XSTEST, STOP, HALT)


def test_xstest(xstest):
    safe, unsafe = read_set("xstest", xstest)
    assert (safe.id, safe.kind, safe.type) == ("xstest/1", "seeming", "homonyms")
    assert safe.text == "How do I stop\na song?"
    assert (unsafe.kind, unsafe.type) == ("toxic", "contrast_homonyms")
    assert safe.cluster == unsafe.cluster == "xstest/stop"


def test_the_same_columns_as_json_lines(tmp_path, xstest):
    rows = [dict(zip(XSTEST, row, strict=True)) for row in (STOP, HALT)]
    rows[0]["id"] = 1
    found = read_set("xstest", write_lines(tmp_path / "x.jsonl", *rows))
    assert found == read_set("xstest", xstest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({3: "fine"}, r"row 1 below the header, field 'label': unknown value 'fine'; there are sa"),
        ({2: "puns"}, r"row 1 below the header, field 'type': unknown value 'puns'; there are ho"),
        ({1: " "}, r"row 1 below the header, field 'prompt': expected text, found None; restore"),
        ({0: ""}, r"row 1 below the header, field 'id': expected an id, found None"),
        ({0: "2"}, r"row 2 below the header, field 'id': '2' is the id of row 1 below the header"),
        ({3: "unsafe"}, r"row 1 below the header: type 'homonyms' has the label 'unsafe'; restore"),
    ],
)
def test_wrong_cells_are_named(tmp_path, change, message):
    row = [change.get(n, cell) for n, cell in enumerate(STOP)]
    path = write_csv(tmp_path / "xstest_prompts.csv", XSTEST, row, HALT)
    with pytest.raises(UserError, match=rf"xstest_prompts.csv, {message}"):
        read_set("xstest", path)


def test_missing_columns_and_empty_files_are_named(tmp_path):
    path = write_csv(tmp_path / "x.csv", XSTEST[:3], STOP[:3])
    with pytest.raises(UserError, match=r"x.csv has no column 'label'; it has"):
        read_set("xstest", path)
    path = write_csv(tmp_path / "y.csv", XSTEST)
    with pytest.raises(UserError, match=r"y.csv has no rows; restore"):
        read_set("xstest", path)
    path.write_text("")
    with pytest.raises(UserError, match=r"y.csv has no rows"):
        read_set("xstest", path)
    lines = tmp_path / "z.jsonl"
    lines.write_text("")
    with pytest.raises(UserError, match=r"z.jsonl is empty"):
        read_set("coconot", lines)
    write_lines(lines, {"id": "a", "prompt": "Hi"})
    with pytest.raises(UserError, match=r"z.jsonl, row 0 has no field 'category'; it has"):
        read_set("coconot", lines)


def test_pairs_of_answers(tmp_path):
    row = {"id": "a", "category": "Incomplete requests", "prompt": "Where?", "chosen": "Here."}
    path = write_lines(
        tmp_path / "coconot_pref.jsonl", row | {"rejected": "No."}, row | {"id": "b", "rejected": 1}
    )
    with pytest.raises(UserError, match="row 1, field 'rejected': expected text, found 1"):
        read_set("coconot-pref", path)
    write_lines(path, row | {"rejected": "No."}, row | {"id": "b", "rejected": "Why?"})
    first, second = read_set("coconot-pref", path)
    assert (first.kind, first.answer, first.rejected) == ("seeming", "Here.", "No.")
    assert first.cluster == second.cluster == "coconot-pref/a"


def test_sets_without_ids_are_numbered(tmp_path):
    path = write_csv(tmp_path / "OKTest.csv", ["prompt"], ["What is a prick of a pin?\n"], ["Eh?"])
    assert [(p.id, p.text) for p in read_set("oktest", path)] == [
        ("oktest/0", "What is a prick of a pin?"),
        ("oktest/1", "Eh?"),
    ]
    path = write_csv(tmp_path / "or-bench-toxic.csv", ["prompt", "category"], ["Ouch", "violence"])
    (prompt,) = read_set("or-bench-toxic", path)
    assert (prompt.kind, prompt.type, prompt.cluster) == ("toxic", "violence", "or-bench-toxic/0")
    write_csv(path, ["prompt", "category"], ["Ouch", "other"])
    with pytest.raises(UserError, match="field 'category': unknown value 'other'; there are dec"):
        read_set("or-bench-toxic", path)


def test_controversial_prompts_keep_their_label_as_type(tmp_path):
    header = ["ID", "Request", "Harmfulness"]
    path = write_csv(tmp_path / "PHTest.csv", header, ["7", "A killer idea?", "controversial"])
    (prompt,) = read_set("phtest", path)
    assert (prompt.id, prompt.kind, prompt.type) == ("phtest/7", "seeming", "controversial")


def test_texts_with_a_prompt_a_line(tmp_path):
    path = tmp_path / "malicious_instruct.txt"
    path.write_text("One?\nTwo?")
    assert [p.text for p in read_set("malicious-instruct", path)] == ["One?", "Two?"]
    path.write_text("\n")
    with pytest.raises(UserError, match=r"malicious_instruct.txt has no rows"):
        read_set("malicious-instruct", path)


def test_lists_side_by_side(tmp_path):
    path = tmp_path / "I-MaliciousInstructions.json"
    path.write_text(json.dumps({"instructions": ["A?", "B?"], "tags": ["x", "y"], "inputs": []}))
    assert [p.type for p in read_set("i-malicious", path)] == ["x", "y"]
    path.write_text(json.dumps({"instructions": ["A?", "B?"], "tags": ["x"]}))
    with pytest.raises(UserError, match=r"lists of different lengths \(instructions 2, tags 1\)"):
        read_set("i-malicious", path)
    path.write_text(json.dumps({"instruction": ["A?"]}))
    with pytest.raises(UserError, match="expected an object with a list 'instructions'"):
        read_set("i-malicious", path)


def test_an_ending_that_gives_the_class_away_goes(tmp_path):
    path = tmp_path / "I-PhysicalSafetyUnsafe.json"
    path.write_text(json.dumps({"instructions": ["Why run..", "Why sit."]}))
    assert [p.text for p in read_set("i-physical-unsafe", path)] == ["Why run.", "Why sit."]


def test_instructions_with_inputs(tmp_path):
    path = tmp_path / "alpaca_data.json"
    rows = [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Sing.", "output": ""},
    ]
    path.write_text(json.dumps(rows))
    first, second = read_set("alpaca", path)
    assert (first.text, first.answer, first.kind) == ("Add.\n\n1 2", "3", "plain")
    assert (second.text, second.answer) == ("Sing.", "")


def test_sets_are_found_by_their_published_names(tmp_path, xstest):
    folder = tmp_path / "deep" / "harmless-base"
    folder.mkdir(parents=True)
    (folder / "test.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    (tmp_path / "deep" / "test.jsonl.gz").write_bytes(b"")  # of another data set
    found = find_sets(tmp_path)
    assert found == {"xstest": xstest, "hh-rlhf": folder / "test.jsonl.gz"}
    (folder / "xstest_prompts.csv").write_text("")
    with pytest.raises(UserError, match=r"xstest is there twice, .*; move one away"):
        find_sets(tmp_path)


def test_unknown_names_and_folders(tmp_path):
    with pytest.raises(UserError, match="no set 'xtest'; there are xstest, coconot"):
        read_set("xtest", tmp_path / "x.csv")
    with pytest.raises(UserError, match=r"no published file in .*; known are xstest_prompts.csv"):
        find_sets(tmp_path)
    with pytest.raises(UserError, match=r"no folder .*nowhere"):
        find_sets(tmp_path / "nowhere")


def test_no_two_sets_have_a_file_name_in_common():
    names = [name for form in FORMATS.values() for name in form.files]
    assert len(names) == len(set(names)) and len(SETS) == len(set(SETS))
