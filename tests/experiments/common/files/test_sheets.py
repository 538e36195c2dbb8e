"""Sheets: csv and xlsx, padded, quoted and damaged ones, and the published ones where present."""

import gc
import sys

import pytest

from experiments.common.files.sheets import read_sheet, sheet_rows
from gdpo_jax.errors import UserError

openpyxl = pytest.importorskip("openpyxl", reason="no openpyxl; install the extra sheets")


@pytest.fixture
def xlsx(tmp_path):
    def write(rows, name="s.xlsx"):
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        book.create_sheet("other").append(["not", "read"])
        book.save(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def csv_file(tmp_path):
    def write(data):
        path = tmp_path / "s.csv"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def test_csv(csv_file):
    path = csv_file('\ufeffid, text ,\r\n1,"two\r\nlines, ""quoted""",\r\n,,\r\n2\r\n')
    assert sheet_rows(path) == [
        ("id", " text "),
        ("1", 'two\r\nlines, "quoted"'),
        ("2", None),
    ]
    assert read_sheet(path, columns=("id",)) == [
        {"id": "1", "text": 'two\r\nlines, "quoted"'},
        {"id": "2", "text": None},
    ]
    assert read_sheet(csv_file("a\n" + "x" * 200_000 + "\n")) == [{"a": "x" * 200_000}]


def test_xlsx(xlsx):
    rows = [["id", "text", None, "year"], [1, "a\nb", "unnamed", 1999], [None] * 4, [None, " "]]
    path = xlsx([*rows, [None] * 300, [2, None, None, "x"]])
    assert sheet_rows(path) == [
        ("id", "text", None, "year"),
        (1, "a\nb", "unnamed", 1999),
        (2, None, None, "x"),
    ]
    assert read_sheet(path) == [
        {"id": 1, "text": "a\nb", "year": 1999},
        {"id": 2, "text": None, "year": "x"},
    ]
    assert sheet_rows(xlsx([])) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "has no rows"),
        (",\n\n", "has no rows"),
        ("a,a\n1,2\n", "has the column 'a' twice"),
        ("a,c\n1,2\n", r"has no column 'b'; it has \['a', 'c'\]"),
        ('a,b\n1,"2\n', "line 2: not csv"),
        ('a,b\n"1"2,3\n', "line 2: not csv"),
        (b"a,b\n\xff,1\n", "not UTF-8"),
    ],
)
def test_bad_csv(csv_file, data, message):
    with pytest.raises(UserError, match=message) as raised:
        read_sheet(csv_file(data), columns=("a", "b"))
    assert "s.csv" in str(raised.value)


def test_bad_xlsx(xlsx, tmp_path):
    path = xlsx([["id"], [1]])
    data = path.read_bytes()
    middle = data.index(b"xl/worksheets/sheet1.xml") + 40
    for damaged in (
        b"",
        b"text",
        data[: len(data) // 2],
        data[:middle] + b"\0" * 60 + data[middle + 60 :],
    ):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"s\.xlsx is damaged"):
            sheet_rows(path)
    gc.collect(1)  # a file that was left open warns here
    with pytest.raises(UserError, match="no file"):
        sheet_rows(tmp_path / "none.xlsx")
    with pytest.raises(UserError, match=r"give a \.csv or \.xlsx file"):
        sheet_rows(tmp_path / "s.ods")


def test_without_openpyxl(xlsx, monkeypatch):
    path = xlsx([["id"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"pip install 'gdpo-jax\[sheets\]'"):
        sheet_rows(path)


@pytest.mark.parametrize(
    ("name", "rows", "width"),
    [
        ("inputs.xlsx", 337, 9),
        ("inputs_80.xlsx", 81, 11),
        ("facts.xlsx", 223, 1),
        ("trivia.xlsx", 707, 1),
        ("judge_human_labels_dev.csv", 51, 11),
    ],
)
def test_published_sheets(reference_file, name, rows, width):
    found = sheet_rows(reference_file(f"curate/{name}"))
    assert len(found) == rows
    assert {len(row) for row in found} == {width}
