"""Sheets for people to label, and agreement with them."""

import csv

import pytest

from experiments.common.judges.verdict import Verdict
from experiments.persona_leakage.published.own_labels import (
    agreements,
    read_own,
    units,
    write_sheet,
)
from experiments.persona_leakage.published.requests import Request, Said
from gdpo_jax.errors import UserError
from tests.experiments.persona_leakage.published_files import MEMORIES, attribute


def said(n, part, **fields):
    request = Request(
        id=f"r/{n}", part=part, memories=MEMORIES, query="Ask.", cluster="r", **fields
    )
    return Said(request=request, sample=0, text=f"Answer {n}.")


RATED = [said(n, "cross-domain") for n in range(6)]
FOUND = [u for n, one in enumerate(RATED) for u in units(one, Verdict(5 if n == 0 else 1))]


def filled(path, labels):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["own label"] = labels.get(row["id"], "")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_a_sheet_draws_from_every_label_and_hides_it(tmp_path):
    path = tmp_path / "sheet.csv"
    assert write_sheet(path, FOUND, 2) == 2
    rows = filled(path, {"r/0#0": "4"})
    # The one answer with a 5 is among any two that are drawn.
    assert "r/0#0" in {row["id"] for row in rows}
    assert rows[0]["legal labels"] == "1, 2, 3, 4, 5" and MEMORIES[0] in rows[0]["memories"]
    assert read_own(path) == {"r/0#0": 4}
    assert write_sheet(path, FOUND, 100) == 6


def test_agreement_by_hand(tmp_path):
    path = tmp_path / "sheet.csv"
    write_sheet(path, FOUND, 6)
    filled(path, {"r/0#0": "5", "r/1#0": "1", "r/2#0": "3", "r/3#0": "1"})
    found = agreements(FOUND, read_own(path))
    assert found["cross-domain"].accuracy == 0.75 and found["cross-domain"].cases == 4
    # Of 16 pairs of labels 1*1 + 3*2 agree by chance: (3/4 - 7/16) / (1 - 7/16).
    assert found["cross-domain"].kappa == pytest.approx(5 / 9)


def test_a_message_has_a_unit_for_each_attribute():
    case = said(0, "disclosure", private=(attribute("a", "x"),), necessary=(attribute("b", 2),))
    found = list(units(case, Verdict('["b"]')))
    assert [(u.id, u.label) for u in found] == [("r/0#0 a", "no"), ("r/0#0 b", "yes")]
    assert "b: 2" in found[1].about


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("r,cross-domain,9", "row 1 below the header, column 'own label': '9'; give one of 1, 2"),
        ("r,nothing,1", "column 'part': no part 'nothing'"),
        ("r,benefit,1\nr,benefit,2", "row 2 below the header, column 'id': 'r' is there twice"),
        ("r,benefit,", "no row has an 'own label'"),
    ],
)
def test_damaged_sheets_are_named(tmp_path, rows, says):
    path = tmp_path / "own.csv"
    path.write_text(f"id,part,own label\n{rows}\n")
    with pytest.raises(UserError, match=says):
        read_own(path)
    with pytest.raises(UserError, match="own label of 'z': no such answer"):
        agreements(FOUND, {"z": 1})
