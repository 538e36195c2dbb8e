import re
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments.common.report.charts import (
    Dot,
    Estimate,
    HeatCell,
    Series,
    heat_map,
    histogram,
    interval_chart,
    line_chart,
    pareto_front,
    scatter_chart,
    ticks,
)
from experiments.common.report.charts.lines import moving_mean
from experiments.common.runs.samples import read_samples
from experiments.saferec.oracle.catalogue import film_oracle
from experiments.saferec.oracle.conventions import OFFICIAL
from experiments.saferec.page import collect_arms, write_report
from experiments.saferec.page.marks import group_z_scores, mark_items
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import FILMS, GORE, listed, record
from tests.experiments.saferec.run_folder import EVIL, SECTIONS, write_run


@pytest.fixture
def run(tmp_path, conversations, invented_films):
    return write_run(tmp_path / "mini", conversations["test"][:40], invented_films, seeds=(0, 1))


@pytest.fixture
def page(run, data_dir):
    (run / "data").symlink_to(data_dir)
    return written(run)


def written(*runs):
    """The text of the page about these runs."""
    results = [collect_arms(run, bootstrap=100) for run in runs]
    return write_report(runs, runs[0] / "report.html", results=results).read_text()


def test_the_page_has_its_parts(page):
    for part in SECTIONS:
        anchor = part.lower().replace(" ", "-")
        assert f'<a href="#{anchor}">{part}</a>' in page
        assert f'<h2 id="{anchor}">{part}</h2>' in page
    assert "<title>SafeRec: mini</title>" in page
    assert "3 arms, 2 seeds, 40 test conversations" in page
    assert "Means over 2 seeds, ± their standard deviation" in page
    assert "95% intervals from 100 bootstrap resamples of 40 items" in page
    assert "against SFT without safety, Holm-corrected per metric over 2 comparisons" in page
    assert sum(page.count(f'<li class="{state}">') for state in ("holds", "fails", "open")) == 5
    assert "Safe-SFT cuts SVR@10 against SFT: <b>holds</b>" in page
    assert "relevance-only RL was not scored" in page
    assert page.count("<article") == 2
    assert "entropy by step: Safe-GDPO ends at 1.5" in page
    assert "was not found beside it" not in page


def test_nothing_is_fetched(page):
    assert re.findall(r'(?:src|href|action)="(?!#|data:,)[^"]*"', page) == []
    assert re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|<iframe|<object", page) == []
    assert "default-src 'none'" in page


def test_what_models_write_stays_text(page):
    assert EVIL not in page
    assert "onerror=alert(1)&gt; {{nav}} &amp; &quot;quoted&quot; &lt;/script&gt;" in page
    assert page.count("<script") == page.count("</script>") == 1


def test_cells_say_how_sure_a_change_is(page):
    """Safe lists have no violation at all: SVR@10 falls by the baseline's mean, for certain."""
    cells = re.findall(r'<span class="change[^"]*" title="([^"]*)">([^<]*)', page)
    assert len(cells) == 2 * (2 * 6 + 3)
    sure = re.findall('class="change better sure" title="difference -[^"]*">▼ \N{MINUS SIGN}', page)
    assert len(sure) >= 6
    assert 'class="base"' in page


def test_every_tag_is_closed_in_order(page):
    class Checker(HTMLParser):
        void = frozenset(("meta", "link", "br"))

        def __init__(self):
            super().__init__()
            self.open = []
            self.ids = []

        def handle_starttag(self, tag, attrs):
            self.ids += [value for name, value in attrs if name == "id"]
            if tag not in self.void:
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag, self.getpos()

    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)


def test_several_runs_stand_side_by_side(tmp_path, conversations, invented_films):
    first = write_run(tmp_path / "a" / "mini", conversations["test"][:5], invented_films)
    second = write_run(
        tmp_path / "b" / "mini", conversations["test"][:5], invented_films, level="sequence"
    )
    page = written(first, second)
    assert "<title>SafeRec: mini (1), mini (2)</title>" in page
    assert "mini (2): Safe-GDPO" in page
    assert "dashed" in page
    assert '<th scope="row">the whole answer</th>' in page
    assert "was not found beside it" in page


def test_an_arm_without_curves_or_samples_still_has_a_page(tmp_path, conversations, invented_films):
    run = write_run(tmp_path / "mini", conversations["test"][:5], invented_films)
    for path in [*run.rglob("samples.jsonl"), *run.rglob("metrics.jsonl")]:
        path.write_text("")
    page = written(run)
    assert 'id="results"' in page
    assert 'id="samples"' not in page
    assert 'id="learning-curves"' not in page


def test_mistakes_are_one_error_and_keep_the_old_page(tmp_path, conversations, invented_films):
    out = tmp_path / "report.html"
    out.write_text("old")
    with pytest.raises(UserError, match="name at least one run folder"):
        write_report([], out)
    with pytest.raises(UserError, match="holds no scored arm"):
        write_report([tmp_path], out)
    run = write_run(tmp_path / "mini", conversations["test"][:5], invented_films)
    path = run / "seed-0" / "safe-gdpo" / "samples.jsonl"
    first, rest = path.read_text().split("\n", 1)
    path.write_text(f"{first[:-40]}\n{rest}")
    with pytest.raises(UserError, match=r"samples\.jsonl, line 1 is damaged"):
        write_report([run], out)
    assert out.read_text() == "old"


def test_marks_of_items():
    liked = record(("The Red Mill", 1999), ("Quiet Harbour", 2004), constraints={GORE: True})
    text = listed(("The Red Mill", 1999), ("Quiet Harbour", 2005), ("Nowhere", 1990))
    items = mark_items(text, liked, film_oracle(FILMS))
    assert [item.marks for item in items] == [("hit", "violation"), ("hit",), ("unknown",)]
    bare = record(("Quiet Harbour", 2004), removed_groundtruth=[["The Red Mill", "1999"]])
    items = mark_items(text, bare, None)
    assert [item.marks for item in items] == [("violation",), ("hit",), ()]
    # The published code also reads lists that stand in no block, and asks for titles to the letter.
    plain = "Quiet Harbor (2004)\nQUIET HARBOUR (2004)"
    assert mark_items(plain, bare, None) == []
    items = mark_items(plain, bare, None, convention=OFFICIAL)
    assert [item.marks for item in items] == [(), ("hit",)]


def test_z_scores_of_a_group():
    z = group_z_scores({"a": [0.0, 2.0, 1.0, 1.0], "b": [1.0, 1.0, None, 1.0]})
    # Deviations -1, 1, 0, 0; their squares add to 2, over n - 1 = 3: sd = 0.8165.
    np.testing.assert_allclose(z[:, 0], [-1.224745, 1.224745, 0, 0], atol=1e-5)
    np.testing.assert_array_equal(z[:, 1], 0)
    ranks = group_z_scores({"a": [[0.0, 5.0], [2.0, 5.0]]})
    np.testing.assert_allclose(ranks[:, 0], [[-0.707107, 0], [0.707107, 0]], atol=1e-5)


def test_samples_of_a_resumed_run_appear_once(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text('{"step": 3, "n": 1}\n{"step": 0, "n": 2}\n{"step": 3, "n": 3}\n')
    assert [(row["step"], row["n"]) for row in read_samples(path)] == [(0, 2), (3, 3)]
    assert read_samples(tmp_path / "absent.jsonl") == []


def test_ticks_are_round_numbers_inside():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-0.03, 0.11) == [0.0, 0.05, 0.1]
    assert ticks(0, 900) == [0, 200, 400, 600, 800]
    for low, high in ((1e-9, 2e-9), (-1e6, 1e6), (3, 3.001)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 7
        assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in found)


def test_pareto_front():
    points = [(0.4, 0.9), (0.1, 0.5), (0.2, 0.4), (0.1, 0.3), (0.0, 0.2)]
    assert pareto_front(points) == [4, 1, 0]


def test_a_series_is_the_mean_over_seeds_with_gaps_left_out():
    series = Series("k", "A", "s0", [[(0, 1.0), (1, None), (2, 5.0)], [(0, 3.0), (1, 4.0)]])
    assert series.points() == [(0, 2.0, 1.0, 3.0), (1, 4.0, 4.0, 4.0), (2, 5.0, 5.0, 5.0)]
    long = Series("k", "A", "s0", [[(x, float(x)) for x in range(10_000)]])
    assert len(long.points()) <= 300
    assert long.points()[-1][3] == 9999.0


def test_charts_of_nothing_and_of_one_value():
    assert line_chart("t", [Series("k", "A", "s0", [[(0, None)]])]) == ""
    assert scatter_chart("t", [], x_label="x", y_label="y") == ""
    assert histogram("t", {"A": []}, {"A": "s0"}) == ""
    flat = line_chart("<t>", [Series("k", "A&B", "s0", [[(0, 0.0)]])])
    assert "nan" not in flat
    assert "&lt;t&gt; by step: A&amp;B ends at 0" in flat
    assert "nan" not in histogram("t", {"A": [0.0, 0.0]}, {"A": "s0"})
    dot = scatter_chart("t", [Dot("k", "A", "s0", 0.0, 0.0)], x_label="x", y_label="y")
    assert "nan" not in dot


def test_heat_map_shades_by_the_largest_value():
    rows = {
        "gore": [HeatCell(0.5, "<b>"), None],
        "horror": [HeatCell(0.0), HeatCell(0.25)],
    }
    table = heat_map(rows, ["A", "B"])
    assert re.findall(r"--heat:([\d.]+)", table) == ["1.000", "0.000", "0.500"]
    assert "<td>-</td>" in table
    assert 'title="&lt;b&gt;"' in table


def test_intervals_stand_under_one_another():
    rows = [
        Estimate("k", "A & B", "s0", 0.5, 0.25, 0.75, note="p 0.01"),
        Estimate("l", "C", "s1", 0.0, -0.5, 0.5, faint=True),
    ]
    chart = interval_chart("<gap>", rows, reference=0.0)
    assert "A &amp; B: 0.5000 (0.2500 to 0.7500), p 0.01; C: 0.0000 (-0.5000 to 0.5000)" in chart
    assert chart.count('class="reference"') == chart.count('class="dot hollow"') == 1
    # The reference runs through the mark that lies on it: 138 + 0.5625 / 1.375 x 210 = 223.91.
    assert 'class="reference" d="M223.91 ' in chart
    assert 'class="dot hollow" transform="translate(223.91 ' in chart
    assert interval_chart("t", []) == ""
    assert "nan" not in interval_chart("t", [Estimate("k", "A", "s0", 0.0, 0.0, 0.0)])


def test_a_moving_mean_reaches_a_fortieth_to_each_side():
    """A hundred points reach two to each side: a spike of five becomes one over five points."""
    straight = [(float(x), 2.0 * x) for x in range(100)]
    assert moving_mean(straight)[2:-2] == straight[2:-2]
    assert moving_mean(straight)[0] == (0.0, 2.0)
    spike = [(float(x), 5.0 * (x == 50)) for x in range(100)]
    smooth = [y for _, y in moving_mean(spike)]
    assert smooth[47:54] == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    assert moving_mean([(0.0, 1.0), (1.0, 3.0)]) == [(0.0, 1.0), (1.0, 3.0)]


def test_a_smooth_line_keeps_its_steps_in_sight():
    run = [(x, float(x % 2)) for x in range(80)]
    one = line_chart("t", [Series("k", "A", "s0", [run])], smooth=True)
    assert one.count("line raw") == one.count("line main") == 1
    two = line_chart("t", [Series("k", "A", "s0", [run, run])], smooth=True)
    assert two.count("line raw") == 0
    assert two.count('class="band"') == 1
