import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments.charts import (
    Dot,
    Series,
    heat_map,
    histogram,
    line_chart,
    pareto_front,
    scatter_chart,
    ticks,
)
from experiments.saferec.catalogue import film_oracle
from experiments.saferec.report import write_report
from experiments.saferec.report_samples import group_z_scores, mark_items
from experiments.saferec.samples import read_samples
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import FILMS, GORE, listed, record
from tests.experiments.saferec.run_folder import EVIL, write_run


@pytest.fixture
def run(tmp_path, conversations, invented_films):
    return write_run(tmp_path / "mini", conversations["test"][:40], invented_films, seeds=(0, 1))


@pytest.fixture
def page(run, data_dir):
    (run / "data").symlink_to(data_dir)
    return write_report([run], run / "report.html").read_text()


def test_the_page_has_its_parts(page):
    for part in (
        "Results",
        "Recall against violations",
        "Violations by sensitivity",
        "Learning curves",
        "Rewards and advantages",
        "Diagnostics",
        "Samples",
    ):
        anchor = part.lower().replace(" ", "-")
        assert f'<a href="#{anchor}">{part}</a>' in page
        assert f'<h2 id="{anchor}">{part}</h2>' in page
    assert "<title>SafeRec: mini</title>" in page
    assert "mean" in page
    assert "±" in page
    assert (
        page.count('class="holds"') + page.count('class="fails"') + page.count('class="open"') == 5
    )
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
    page = write_report([first, second], tmp_path / "both.html").read_text()
    assert "<title>SafeRec: mini (1), mini (2)</title>" in page
    assert "mini (2): Safe-GDPO" in page
    assert "dashed" in page
    assert '<th scope="row">answer</th>' in page
    assert "was not found beside it" in page


def test_an_arm_without_curves_or_samples_still_has_a_page(tmp_path, conversations, invented_films):
    run = write_run(tmp_path / "mini", conversations["test"][:5], invented_films)
    for path in [*run.rglob("samples.jsonl"), *run.rglob("metrics.jsonl")]:
        path.write_text("")
    page = write_report([run], tmp_path / "report.html").read_text()
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
    path.write_text(path.read_text()[:-40])
    with pytest.raises(UserError, match=r"samples\.jsonl, line 2 is not JSON"):
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
    table = heat_map({"gore": [0.5, None], "horror": [0.0, 0.25]}, ["A", "B"])
    assert re.findall(r"--heat:([\d.]+)", table) == ["1.000", "0.000", "0.500"]
    assert "<td>-</td>" in table


@pytest.mark.slow
def test_the_page_works_in_a_browser(page, run):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    done = subprocess.run(
        [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={run / 'profile'}",
            "--enable-logging=stderr",
            "--dump-dom",
            (run / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    # The script ran: of the samples, the chosen one alone is shown.
    articles = re.findall(r'<article class="sample"[^>]*>', done.stdout)
    assert len(articles) == 2
    assert [' hidden=""' in article for article in articles] == [False, True]
