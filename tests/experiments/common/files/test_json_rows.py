import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.common.files.json_rows import read_json, read_rows
from gdpo_jax.errors import UserError

ROWS = [{"sample_id": "a", "text": "x\u2028y"}, {"sample_id": "b"}]


@pytest.fixture
def written(tmp_path):
    def write(text, name="rows.json"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (json.dumps(ROWS), "rows.json"),
        (json.dumps({"samples": ROWS, "stats": {}}, indent=1), "rows.json"),
        (LINES, "rows.jsonl"),
        (LINES, "rows.json"),
        (LINES + "\n\n", "rows.txt"),
        ("\ufeff" + LINES, "rows.jsonl"),
    ],
)
def test_every_form(written, text, name):
    assert read_rows(written(text, name)) == ROWS


def test_one_row(written):
    assert read_rows(written('{"sample_id": "a"}')) == [{"sample_id": "a"}]
    assert read_rows(written('{"x": 1}\n', "one.jsonl")) == [{"x": 1}]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "r.json", "is empty"),
        (" \n", "r.jsonl", "is empty"),
        ('[{"a": 1}, {"a"', "r.json", "line 1 is truncated or not JSON .*column 16"),
        ('{"a": 1}\n{"a": ', "r.jsonl", "line 2 is not JSON .*looks truncated"),
        ('{"a": \n{"a": 1}\n', "r.jsonl", r"line 1 is not JSON \([^)]*\)$"),
        ("[1, 2]", "r.json", "row 0: expected an object, found int"),
        ('{"a": 1}\n[]\n', "r.jsonl", "row 1: expected an object, found list"),
        ('{"rows": []}', "r.json", "found an object with .'rows'."),
        ('"text"', "r.json", "found 'text'"),
        (b"[\xff]", "r.json", "line 1 is not UTF-8 text"),
        ("[" * 100_000, "r.json", "truncated or not JSON"),
        ('[{"a": ' + "9" * 5000 + "}]", "r.json", "truncated or not JSON"),
    ],
)
def test_bad_files(written, text, name, message):
    path = written(text, name)
    with pytest.raises(UserError, match=message) as raised:
        read_rows(path)
    assert str(path) in str(raised.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no file"):
        read_rows(tmp_path / "none.json")
    with pytest.raises(UserError, match="is a folder"):
        read_json(tmp_path)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=80).map(str.encode)))
def test_any_bytes_give_rows_or_one_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_bytes(data)
    try:
        rows = read_rows(path)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(row, dict) for row in rows)
