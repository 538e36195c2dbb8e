"""Workbooks of the published form: padded, incomplete and damaged ones."""

import csv

import pytest

from experiments.common.files.sheets import sheet_rows
from experiments.curate.data.workbooks import read_workbooks
from gdpo_jax.errors import UserError
from tests.experiments.curate.workbooks import (
    FACTS,
    HEADER,
    PREFERENCES,
    TRIVIA,
    cells,
    published_folder,
)

openpyxl = pytest.importorskip("openpyxl", reason="no openpyxl; install the extra sheets")


@pytest.fixture
def folder(tmp_path):
    return published_folder(tmp_path / "published")


def change(path, edit):
    book = openpyxl.load_workbook(path)
    edit(book.active)
    book.save(path)


def test_all_columns_arrive_and_padding_does_not(folder):
    tables = read_workbooks(folder)
    assert len(tables.rows) == len(tables.ablation_rows) == 4
    row = tables.rows[2]
    assert [
        row.constraint,
        row.preference_b,
        row.preference_c,
        row.preference_d,
        row.question_user,
        row.biased_user,
        row.question_all,
        row.biased_all,
        row.category,
    ] == cells(2)
    assert row.person_constraint == row.user_preference_b == row.control_question == ""
    other = tables.ablation_rows[2]
    assert (other.person_constraint, other.user_preference_b) == (
        "My aunt fears 2.",
        "I like it 2.",
    )
    assert other.biased_all == row.biased_all
    assert (tables.facts, tables.preferences, tables.trivia) == (FACTS, PREFERENCES, TRIVIA)


def test_columns_are_found_by_name(folder):
    change(folder / "inputs.xlsx", lambda sheet: sheet.insert_cols(1))
    assert read_workbooks(folder).rows[0].constraint == "I fear 0"


def test_sheets_saved_as_csv(folder):
    whole = read_workbooks(folder)
    for path in list(folder.glob("*.xlsx")):
        with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(sheet_rows(path))
        path.unlink()
    assert read_workbooks(folder) == whole


def test_scenarios_alone_need_no_ablation_rows(folder):
    (folder / "inputs_80.xlsx").unlink()
    assert read_workbooks(folder, ablations=False).ablation_rows == ()
    with pytest.raises(UserError, match=r"no inputs_80\.xlsx in .*published; give the folder"):
        read_workbooks(folder)


@pytest.mark.parametrize("name", ["inputs", "facts", "prefs", "trivia"])
def test_a_missing_file(folder, name):
    (folder / f"{name}.xlsx").unlink()
    with pytest.raises(UserError, match=rf"no {name}\.xlsx"):
        read_workbooks(folder)


def test_a_missing_column(folder):
    change(folder / "inputs_80.xlsx", lambda sheet: sheet.delete_cols(4))
    with pytest.raises(UserError, match=r"inputs_80\.xlsx has no column .User as Person B's pref"):
        read_workbooks(folder)


@pytest.mark.parametrize("value", [None, "  ", 7])
def test_a_missing_cell(folder, value):
    change(folder / "inputs.xlsx", lambda sheet: sheet.cell(4, 6).__setattr__("value", value))
    expected = rf"inputs\.xlsx, row 3 below the header, '{HEADER[5].replace('(', '.')[:16]}"
    with pytest.raises(UserError, match=expected):
        read_workbooks(folder)


def test_a_number_among_the_trivia(folder):
    change(folder / "trivia.xlsx", lambda sheet: sheet.cell(2, 1).__setattr__("value", 12))
    with pytest.raises(UserError, match=r"trivia\.xlsx, row 2, first column: .*found 12"):
        read_workbooks(folder)


def test_too_little_to_draw_from(folder):
    change(folder / "trivia.xlsx", lambda sheet: sheet.delete_rows(4, 2))  # one question is twice
    with pytest.raises(UserError, match=r"trivia\.xlsx has 2 different texts, a dialogue needs 3"):
        read_workbooks(folder)


def test_a_header_alone(folder):
    change(folder / "inputs.xlsx", lambda sheet: sheet.delete_rows(2, 40))
    with pytest.raises(UserError, match="has a header but no rows"):
        read_workbooks(folder)
