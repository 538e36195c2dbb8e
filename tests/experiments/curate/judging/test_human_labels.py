"""The table of human labels: read with a real CSV reader, and what is wrong with it by place."""

import csv
import io

import pytest
from rich.console import Console

from experiments.common.judges.verdict import Verdict, unread
from experiments.curate.judging.human_labels import agree, print_agreement, read_labels
from gdpo_jax.errors import UserError

COLUMNS = [
    "Scenario",
    "Category",
    "First User Input",
    "Last User Input",
    "Last Model Response",
    "Model Eval Rating",
    "Human 1 Eval Rating",
    "Human 2 Eval Rating",
]


def write(path, rows, columns=COLUMNS):
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def row(category, *ratings):
    return ["Scenario 1", category, "I fear figs", 'Shall I eat "figs",\nor not?', "No.", *ratings]


def test_rows_and_agreement(tmp_path):
    rows = [row("x", 2, 2, 2), row("x", 0, 1, 0), row("y", 0, 0, 0), row("y", 2, 2, 2)]
    items = read_labels(write(tmp_path / "labels.csv", rows))
    assert items[0].judged.question == 'Shall I eat "figs",\nor not?'
    assert items[1].ratings == {"published judge": 0, "human 1": 1, "human 2": 0}
    verdicts = [Verdict(2), Verdict(0), Verdict(2), unread("no rating")]
    raters = agree(items, lambda judged: verdicts)
    assert [(r.rater, r.part) for r in raters[3:6]] == [
        ("human 1", "all"),
        ("human 1", "x"),
        ("human 1", "y"),
    ]
    one = raters[3]
    # Read: 2-2, 0-1, 2-0 of three labels; 2-2 and 2-0 are decided.
    assert (one.three.cases, one.three.unread, one.three.accuracy) == (3, 1, pytest.approx(1 / 3))
    assert one.three.confusion.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert (one.decided.cases, one.decided.accuracy) == (2, 0.5)
    console = Console(file=io.StringIO(), width=100)
    print_agreement(raters, console)
    printed = console.file.getvalue()
    assert "of 3" in printed and "1 unread" in printed and "2:   1   0   1" in printed


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([], COLUMNS, "has no rows"),
        ([row("x", 2, 2, 2)], [*COLUMNS[:-1], "Other"], "no column 'Human 2 Eval Rating'"),
        ([row("x", 2, 2, 2), row("x", 2, 3, 2)], COLUMNS, "row 2, column 'Human 1 .*'3'; give 0"),
        ([row("", 2, 2, 2)], COLUMNS, "row 1, column 'Category': expected text"),
        ([row("x", 2, 2)], COLUMNS, "row 1 has too many or too few fields"),
        ([row("x", 2, 2, 2, 2)], COLUMNS, "row 1 has too many or too few fields"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, rows, columns, message):
    with pytest.raises(UserError, match=message):
        read_labels(write(tmp_path / "labels.csv", rows, columns))


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="no CSV file in UTF-8"):
        read_labels(tmp_path / "bytes.csv")
