"""The report of an experiment that nobody has heard of: two arms, metrics of any name."""

import json
import re

import numpy as np
import pytest

from experiments.common.report.comparisons import split, trade_off
from experiments.common.report.report import report
from experiments.common.report.runs import load_runs
from experiments.common.report.tables import group_table
from experiments.common.scores.claims import Claim
from experiments.common.scores.metric import Metric
from experiments.common.scores.results import collect
from experiments.common.scores.summaries import summarize, write_json
from experiments.common.scores.table import Table

ARMS = [("plain", "Plain <i>"), ("kind", "Kind"), ("never", "Never run")]
METRICS = (
    Metric("joy", "Joy", better="more", digits=2, beside="read", parts=("weather",)),
    Metric("read", "read"),
    Metric("cost", "Cost", better="less", digits=1),
    Metric("words", "Words", panel="size"),
)
CLAIMS = (Claim("Kind brings joy", lambda v: (v("kind", "joy") > v("plain", "joy"), "more")),)
SECTIONS = {
    "Trade-off": trade_off("cost", "joy"),
    "Weather": split("weather", ("joy",), note="What the day was like."),
    "Joys": group_table("weather", "joy"),
}


def table(joy, cost):
    count = 6
    ids = tuple(f"item-{n}" for n in range(count))
    values = {
        "joy": np.full(count, joy),
        "read": np.ones(count),
        "cost": np.full(count, cost),
        "words": np.arange(count, dtype=float),
    }
    return Table(ids, values, {"weather": ("sun", "rain") * 3}, ids)


@pytest.fixture
def run(tmp_path):
    for name, joy, cost in (("plain", 0.25, 3.0), ("kind", 0.75, 5.0)):
        folder = tmp_path / "run" / "seed-0" / name
        write_json(folder / "scores.json", summarize(table(joy, cost), samples=20))
        rows = [{"step": n, "loss": 1.0 / (n + 1)} for n in range(3)]
        if name == "kind":
            rows = [row | {"reward/warmth/mean": 0.5, "entropy": 1.0} for row in rows]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "run"


def loaded(run):
    results = collect(run, arms=ARMS, metrics=METRICS, bootstrap=50)
    return load_runs([run], [results], arms=[name for name, _ in ARMS], claims=CLAIMS)


def test_an_experiment_gives_only_its_own_sections(run, tmp_path):
    page = report("Toy", loaded(run), SECTIONS, tmp_path / "page.html").read_text()
    assert "<title>Toy: run</title>" in page
    assert re.findall("<h2 id=[^>]*>([^<]*)</h2>", page) == [
        "Claims", "Results", "Differences", *SECTIONS, "Learning curves"
    ]  # fmt: skip
    assert "2 arms, one seed, 6 test items" in page
    assert "Kind brings joy: <b>holds</b>" in page
    # Directions, digits, what stands beside, the better of two, and who is the baseline.
    assert re.findall('<th scope="col">((?:Joy|Cost|Words)[^<]*)</th>', page) == [
        "Joy ↑", "Cost ↓", "Words"
    ]  # fmt: skip
    cells = re.findall('<td class="(best|other)"><span class="value">([^<]*)', page)
    assert cells == [
        ("other", "0.25"), ("best", "3.0"), ("best", "0.75"), ("other", "5.0"),
        ("other", "2.5000"), ("other", "2.5000"),
    ]  # fmt: skip
    assert page.count('<span class="spread">read 1.000</span>') == 2
    changes = re.findall('<span class="(change[^"]*)"[^>]*>([^<]*), p', page)
    assert changes[:2] == [("change better sure", "▲ +0.5"), ("change worse sure", "▲ +2")]
    assert "Joy over Cost: upper left is better" in page
    assert "Darker is better" in page and 'class="heat more"' in page
    assert "Joy, rain" in page and "What the day was like." in page
    assert "warmth reward by step: Kind ends at 0.5" in page
    assert "loss, imitation by step: Plain &lt;i&gt; ends at 0.3333" in page
    assert "loss, policy by step: Kind ends at 0.3333" in page
    assert "<i>" not in page


def test_a_section_of_a_shared_name_stands_in_its_place(run, tmp_path):
    sections = {"Results": lambda runs: runs[0].results.source and "own <b>", "Empty": lambda _: ""}
    page = report("Toy", loaded(run), sections, tmp_path / "page.html").read_text()
    heads = re.findall("<h2 id=[^>]*>([^<]*)</h2>", page)
    assert heads == ["Claims", "Differences", "Results", "Learning curves"]
    assert "own &lt;b&gt;" in page


def test_an_arm_has_one_style_in_all_runs(run):
    [found] = loaded(run)
    assert [found.style(name).place for name, _ in ARMS] == [0, 1, 2]
    assert found.arms[0].optimized is False and found.arms[1].optimized is True
