"""Records from files: every kind that is read, and every damage named with its place."""

import gzip
import json

import pytest

from gdpo_jax.data import read_records, require_fields
from gdpo_jax.errors import UserError

ROWS = [{"prompt": "a\u2028b", "n": 1}, {"prompt": "ü", "n": None, "tags": ["x"]}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("r.jsonl", LINES),
        ("r.JSONL", LINES.rstrip("\n")),
        ("r.ndjson", LINES.replace("\n", "\r\n\r\n")),
        ("r.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
        ("r.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("r.json", json.dumps(ROWS, indent=1)),
        ("r.json", LINES),
        ("r.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
    ],
)
def test_json_in_every_form(tmp_path, name, data):
    assert read_records(write(tmp_path / name, data)) == ROWS
    assert read_records(str(tmp_path / name)) == ROWS


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("r.jsonl", "", "r.jsonl holds no records"),
        ("r.jsonl", " \n\n", "holds no records"),
        ("r.json", "[]", "holds no records"),
        ("r.json", "", "not JSON"),
        ("r.jsonl", '{"a": 1}\n[1]\n', "line 2: expected a JSON object, found list; a list of"),
        ("r.jsonl", '{"a": 1}\n\n"b"\n', "line 3: expected a JSON object, found text"),
        ("r.jsonl", "[\n{}\n]", "line 1 is not JSON .*; a list of records belongs in a .json file"),
        ("r.jsonl", '{"a": 1}\n{a}\n{"a": 1}\n', r"line 2 is not JSON \(Expecting .*, column 2\)$"),
        ("r.jsonl", '{"a": 1}\n{"a": ', "line 2 is not JSON .*the file may have been cut off"),
        ("r.jsonl", '{"a": ' + "9" * 5000 + "}", "line 1 is not JSON"),
        ("r.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("r.json", "[1]", "row 0: expected a JSON object, found int"),
        ("r.json", '[{"a": 1}, null]', "row 1: expected a JSON object, found null"),
        ("r.json", '{"a": [{}]}', "holds one JSON object, not a list of records"),
        ("r.json", '[{"a": 1},\n', "line 2 is truncated or not JSON"),
        ("r.json", '{"a": 1}\n{"a"', "line 2 is not JSON"),
        ("r.jsonl", b'{"a": 1}\n{"a": "\xfc"}\n', r"line 2 is not UTF-8 text \(byte 16\)"),
        ("r.jsonl", LINES.encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("r.jsonl", LINES.encode("utf-16-le"), "line 1 has a NUL byte"),
        ("r.jsonl", b'{"a": 1}\n' + bytes(40), "line 2 has a NUL byte: the file is damaged"),
        ("r.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-9], "truncated or no gzip file"),
        ("r.jsonl.gz", b"\x1f\x8b" + bytes(20), "truncated or no gzip file"),
        ("r.csv", "a,b\n", r"of no kind that is read: use \.jsonl"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_damaged_files_are_named_with_the_place(tmp_path, name, data, message):
    path = write(tmp_path / name, data)
    with pytest.raises(UserError, match=message) as caught:
        read_records(path)
    assert str(path) in str(caught.value)


def test_what_is_not_there(tmp_path):
    for name in ("r.jsonl", "r.parquet", "folder", "x" * 300, "a\0b"):
        with pytest.raises(UserError, match=r"there is no file|cannot read"):
            read_records(tmp_path / name)
    with pytest.raises(UserError, match="is no save_to_disk folder"):
        read_records(tmp_path)
    with pytest.raises(UserError, match="one file without splits; leave out split='train'"):
        read_records(write(tmp_path / "r.jsonl", LINES), split="train")


def test_an_escaped_nul_and_a_repeated_key_are_data(tmp_path):
    path = write(tmp_path / "r.jsonl", r'{"a": "\u0000", "b": 1, "b": 2}')
    assert read_records(path) == [{"a": "\0", "b": 2}]


def test_missing_fields_name_row_and_field():
    rows = [{"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": None}, {"answer": "d"}]
    require_fields(rows, (), "r.jsonl")
    require_fields(rows[:1], "answer", "r.jsonl")
    with pytest.raises(UserError, match=r"r\.jsonl, row 1: field 'answer' is None"):
        require_fields(rows, ("prompt", "answer"), "r.jsonl")
    with pytest.raises(UserError, match=r"row 2: field 'prompt' is missing; .* \['answer'\]"):
        require_fields(rows, ["prompt"], "r.jsonl")


@pytest.fixture
def arrow():
    import pyarrow

    return pyarrow


@pytest.fixture
def save(arrow, tmp_path):
    """A function that writes rows as `save_to_disk` does."""

    def save_rows(rows, name="data", split="train"):
        folder = tmp_path / name
        table = arrow.Table.from_pylist(rows)
        file = folder / "data-00000-of-00001.arrow"
        folder.mkdir(parents=True)
        with arrow.OSFile(str(file), "wb") as sink, arrow.ipc.new_stream(sink, table.schema) as out:
            out.write_table(table)
        state = {"_data_files": [{"filename": file.name}], "_split": split}
        write(folder / "state.json", json.dumps(state))
        return folder

    return save_rows


FULL = [ROWS[0] | {"tags": None}, ROWS[1]]


def test_saved_folders_and_their_splits(save, tmp_path):
    folder = save(FULL)
    assert read_records(folder) == FULL
    assert read_records(folder, split="train") == FULL
    with pytest.raises(UserError, match="is the one split 'train'; it has no split 'test'"):
        read_records(folder, split="test")
    both = save(FULL[:1], "both/train").parent
    assert read_records(both) == FULL[:1]
    save(FULL[1:], "both/test", "test")
    assert read_records(both, split="test") == FULL[1:]
    with pytest.raises(UserError, match="has several splits; give split= one of test, train"):
        read_records(both)
    for split in ("dev", "../data", ""):
        with pytest.raises(UserError, match=r"has no split .*; give split= one of test, train"):
            read_records(both, split=split)
    write(both / "dataset_dict.json", json.dumps({"splits": ["train", "test", "dev"]}))
    with pytest.raises(UserError, match=r"lists the split 'dev', of which .* has no folder"):
        read_records(both, split="train")


@pytest.mark.parametrize("name", ["../data.arrow", "/etc/passwd", "a/b.arrow", "..", "", 3])
def test_files_outside_of_the_folder_are_refused(save, name):
    folder = save(FULL)
    write(folder / "state.json", json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(UserError, match=r"names no file beside it|lists it"):
        read_records(folder)


def test_parquet_files(arrow, tmp_path):
    from pyarrow import parquet

    path = tmp_path / "train-00000-of-00001.parquet"
    parquet.write_table(arrow.Table.from_pylist(FULL), path)
    assert read_records(path) == FULL
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"PAR1", LINES.encode()):
        with pytest.raises(UserError, match="is truncated or no Parquet file"):
            read_records(write(path, data))
    parquet.write_table(arrow.table([[1], [2]], names=["a", "a"]), path)
    with pytest.raises(UserError, match="has two columns 'a'"):
        read_records(path)
