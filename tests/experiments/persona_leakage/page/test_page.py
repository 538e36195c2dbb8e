"""The page's sections about leaks, as a reader's browser gets them."""

import contextlib
import dataclasses
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.common.report.report import report
from experiments.common.report.runs import load_runs
from experiments.common.scores.metric import Metric
from experiments.common.scores.results import collect
from experiments.common.scores.summaries import summarize, write_json
from experiments.common.scores.table import Table
from experiments.persona_leakage.data.notes import Note
from experiments.persona_leakage.measures.attacks import attack_entry, marked
from experiments.persona_leakage.measures.strength import (
    STRENGTH_FILES,
    Strength,
    write_strengths,
)
from experiments.persona_leakage.page import SECTIONS
from experiments.persona_leakage.page.costs import costs_of
from experiments.persona_leakage.page.detection import operating_points
from experiments.persona_leakage.page.leaks import segments
from experiments.persona_leakage.store.conversations import open_store
from experiments.persona_leakage.store.memory import keep_notes
from tests.experiments.persona_leakage.attack_cases import (
    OWN,
    QUESTIONS,
    RECORDS,
    USERS,
    answers,
    heard,
)

EVIL = '<img src=x onerror=alert(1)> {{nav}} & "quoted" </script>'
METRICS = (
    Metric("leakage", "leakage", "less"),
    Metric("recall", "owner recall", "more"),
    Metric("utility", "utility for strangers", "more"),
)
ARMS = {"shared": "none", "shared-without": "none, without a", "separation": "separation"}
UNSEEN = [user.id for user in USERS if user.half == "a"]
PET = next(mark.text for mark in USERS[0].marks if mark.kind == "pet name")


class Reader(HTMLParser):
    """Tags closed in order, ids given once, and the text of every section by its heading."""

    void = frozenset(("meta", "link", "br", "img"))

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.sections, self.heading = [], [], {}, ""
        self.feed(page)
        assert self.open == [] and len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.heading = data
        self.sections[self.heading] = self.sections.get(self.heading, "") + data


def runs_of(folder):
    results = collect(folder, arms=tuple(ARMS.items()), metrics=METRICS, bootstrap=20)
    return load_runs([folder], [results], arms=list(ARMS), claims=())


def page_of(folder):
    out = folder / "report.html"
    return report("Persona leakage", runs_of(folder), SECTIONS, out).read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two arms; the first calls a stranger by somebody's pet name, in a hostile answer."""
    folder = tmp_path_factory.mktemp("run")
    table = Table(
        ids=("a", "b"),
        values={metric.name: np.array([0.25, 0.75]) for metric in METRICS},
        groups={},
        clusters=("u", "v"),
    )
    none = dataclasses.replace(table, values={**table.values, "leakage": np.zeros(2)})
    for arm in ARMS:
        table = none if arm == "shared-without" else table
        scores = {"identity": "x", **summarize(table, METRICS, samples=5)}
        write_json(folder / "seed-0" / arm / "scores.json", scores)
        rows = [{"step": n, "loss": 1.0, "time/step_seconds": 0.5} for n in (0, 10, 19)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "seed-0" / arm / "metrics.jsonl").write_text(text)
    leaking = answers()
    leaking[0] = f"{EVIL} my dear {PET}!"
    found = {
        arm: attack_entry(
            USERS,
            RECORDS,
            heard(texts),
            heard(answers(), unseen=UNSEEN),
            name_without=f"{arm}-without",
            questions=QUESTIONS,
            own=OWN,
            samples=20,
        )
        for arm, texts in (("shared", leaking), ("separation", answers()))
    }
    kept = ("id", "kind", "request", "wanted")
    requests = [{"victim": r["user"], **{name: r[name] for name in kept}} for r in RECORDS]
    write_json(
        folder / "seed-0" / "attack.json",
        {"about": {"candidates": 4}, "requests": requests, "arms": found},
    )
    sessions = {"genuine": [0.9, 0.8, 0.4], "impostor": [0.1, 0.5, 0.2, 0.3], "gate": 0.45}
    write_json(folder / "data" / "persona_leakage" / "about.json", {"sessions": sessions})
    with contextlib.closing(open_store(folder / "data" / "persona_leakage" / "store")) as store:
        for user in USERS:
            keep_notes(store.user(user.id), [Note(topic="", text="x" * 80)])
    for name, users in (("divergence", USERS), ("recall", USERS[:12])):
        strengths = [
            Strength(user=user.id, strength=1 + n, leakage=n / 100 if n < 12 else math.nan)
            for n, user in enumerate(users)
        ]
        write_strengths(folder / "seed-0" / STRENGTH_FILES[name], strengths)
    return folder


def test_sections(run):
    page = page_of(run)
    shown = Reader(page).sections
    assert {"Safeguards", "Who leaks to whom", "Extraction", "Detection", "Leaks"} <= set(shown)
    safeguards = shown["Safeguards"]
    # The arm minus its twin, and recall minus that; twins have no row of their own.
    assert safeguards.count("0.500 (0.250 to 0.750)") >= 3 and "0.000" in safeguards
    # ["notes","[[\\"\\",\\"x...x\\"]]"] is 105 bytes, and the name of a user has 7.
    assert "notes 105 B, name and key 7 B a user" in safeguards and "10.0 s" in safeguards
    assert "without a" not in safeguards
    matrix = shown["Who leaks to whom"]
    share = 1 / (len(RECORDS) // 2)
    assert f"{share:.2f}" in matrix and "against shared-without" in matrix
    assert all(name in matrix for name in UNSEEN)
    assert "16 times" in shown["Extraction"] and "control" in shown["Extraction"]
    # The mean of 2 - log2 rank over ranks 1 to 4: 2 - log2(24) / 4.
    assert "bits: 0.85 where nothing is remembered, 2.00 at most" in shown["Extraction"]
    # At the gate one impostor of four is let in, and one owner of three is not.
    assert "25.00 %" in shown["Detection"] and "33.33 %" in shown["Detection"]
    assert "3 sessions of owners, 4 of strangers" in shown["Detection"]
    assert f"{USERS[0].id}: pet name" in shown["Leaks"] and "clean" in shown["Leaks"]
    assert re.search(rf"<mark>{PET}</mark>", page)


def test_selective_isolation(run):
    page = page_of(run)
    shown = Reader(page).sections["Selective isolation"]
    kinds = ("by KL of notes", "by recall of marks")
    assert [shown.count(f"Selective isolation {kind}") for kind in kinds] == [1, 1]
    rows = re.findall(r"<tr>(.*?)</tr>", page.split(f"Selective isolation {kinds[1]}")[-1], re.S)
    cells = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in rows]
    # Of twelve users with strengths 1 to 12 and leakage 0 to 0.11, six are isolated above 6; the
    # others leak 0.025, and their 112 bytes each count no more.
    table = {row[0]: row[1:] for row in cells if len(row) == 5}
    assert table["6"] == ["0.500", "672", "0.0250", "0.0125"]
    assert table["0"] == ["1.000", "1344", "-", "0.0000"]
    assert table["inf"] == ["0.000", "0", "0.0550", "0.0550"]


def test_costs_as_json(run):
    [loaded] = runs_of(run)
    assert costs_of(loaded) == {
        "arms": {
            "shared": {"stored_bytes": 0, "of": {}, "training_seconds": 10.0},
            "separation": {
                "stored_bytes": 112.0,
                "of": {"notes": 105.0, "name and key": 7.0},
                "training_seconds": 10.0,
            },
        }
    }
    elsewhere = costs_of(dataclasses.replace(loaded, data_dir=None))["arms"]
    assert elsewhere["separation"]["stored_bytes"] is None


def test_texts_stay_texts(run):
    page = page_of(run)
    assert EVIL not in page and "onerror=alert(1)&gt; {{nav}} &amp;" in page
    assert page.count("<script") == page.count("</script>") == 1
    assert re.findall(r'(?:src|href|action)="(?!#|data:,)[^"]*"', page) == []


def test_what_is_missing_or_damaged_takes_its_own_sections_only(run, tmp_path):
    for arm in ARMS:
        whole = (run / "seed-0" / arm / "scores.json").read_text()
        (tmp_path / "seed-0" / arm).mkdir(parents=True)
        (tmp_path / "seed-0" / arm / "scores.json").write_text(whole)
    shown = Reader(page_of(tmp_path)).sections
    assert "Safeguards" in shown and "Selective isolation" not in shown
    assert "Leaks" not in shown and "Detection" not in shown
    (tmp_path / "seed-0" / "attack.json").write_text("[]")
    about = tmp_path / "data" / "persona_leakage" / "about.json"
    write_json(about, {"sessions": {"genuine": []}})
    write_strengths(
        tmp_path / "seed-0" / STRENGTH_FILES["recall"], [Strength(user="x", strength=1)]
    )
    shown = Reader(page_of(tmp_path)).sections
    assert all(
        "attack.json is no file of this project" in shown[name]
        for name in ("Who leaks to whom", "Extraction", "Leaks")
    )
    assert "has no user 'x', whose strength was measured" in shown["Selective isolation"]
    assert "holds no scores of sessions" in shown["Detection"] and "0.500" in shown["Safeguards"]


def test_operating_points_by_hand():
    genuine, impostor = np.array([0.9, 0.5]), np.array([0.1, 0.5])
    found = operating_points(genuine, impostor)
    assert [point[1:] for point in found] == [(1.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.0, 1.0)]
    assert [point[0] for point in found[:3]] == [0.1, 0.5, 0.9]
    many = np.arange(1000) / 1000
    assert len(operating_points(many, many, most=10)) == 11


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([*(m.text for u in USERS[:3] for m in u.marks), "some words"])))
def test_segments_join_to_the_answer(parts):
    text = ", ".join(parts)
    cut = segments(text, marked(USERS, text)["marks"])
    assert "".join(part["text"] for part in cut) == text
    assert sum(bool(part["note"]) for part in cut) >= sum(part != "some words" for part in parts)
