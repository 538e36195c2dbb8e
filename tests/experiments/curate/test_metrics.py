"""Metrics of dialogues, with numbers by hand."""

import math

import numpy as np
import pytest

from experiments.common.judges.verdict import Verdict, unread
from experiments.common.scores.summaries import summarize
from experiments.curate.dialogues import Dialogue
from experiments.curate.metrics import METRICS, table
from tests.experiments.curate.dialogue_cases import case


def held(row, answer="No.", *, reason="stop", **more):
    return Dialogue(case=case(row, **more), answers=("x", answer), tokens=3, reason=reason)


DIALOGUES = [
    held(0, "No figs for you."),
    held(1),
    held(2, reason="length"),
    held(3),
    held(0, scenario="sc2"),
    Dialogue(case=case(4), answers=("x",), failed="status 500", tokens=9, reason="stop"),
    held(5, "Read it.", scenario="sc1-control", control=True, turns=("a", "Which novel?")),
    held(6, "Avoid it: your fig allergy is a risk.", scenario="sc1-control", control=True,
         turns=("a", "Which novel?")),
]  # fmt: skip
VERDICTS = {
    "sc1/0000": Verdict(2),
    "sc1/0001": Verdict(0),
    "sc1/0002": Verdict(1),
    "sc1/0003": unread("no rating"),
    "sc2/0000": Verdict(2),
}


def test_rates_by_hand():
    found = table(DIALOGUES, VERDICTS)
    means = found.means()
    assert means["pass"] == pytest.approx(2 / 3)  # of 2, 0 and 2
    assert means["unclear"] == 0.25  # of the four that could be read
    assert means["unread"] == 0.2
    assert means["failed"] == 1 / 8
    assert means["warns"] == 0.5
    assert (means["tokens"], means["cut"]) == (3, 1 / 7)
    np.testing.assert_array_equal(found.values["words"], [4, 1, 1, 1, 1, math.nan, 2, 7 + 1])
    assert found.groups["scenario"][-1] == "sc1-control"
    assert found.clusters[0] == found.clusters[4] == "row 0"


def test_intervals_by_scenario_are_wilsons_and_no_decided_case_has_no_rate():
    summary = summarize(table(DIALOGUES, VERDICTS), METRICS, samples=50)
    one = summary["splits"]["scenario"]["sc1"]["metrics"]["pass"]
    # Wilson's interval of one success in two.
    assert one["mean"] == 0.5 and one["low"] == pytest.approx(0.0945, abs=1e-4)
    assert summary["metrics"]["pass"]["count"] == 3
    none = summary["splits"]["scenario"]["sc1-control"]["metrics"]["pass"]
    assert (none["mean"], none["low"], none["count"]) == (None, None, 0)
