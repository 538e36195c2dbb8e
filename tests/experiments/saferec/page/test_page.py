import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments.common.runs.samples import read_samples
from experiments.saferec.oracle.catalogue import film_oracle
from experiments.saferec.oracle.conventions import OFFICIAL
from experiments.saferec.page.marks import group_z_scores, mark_items
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import FILMS, GORE, listed, record
from tests.experiments.saferec.run_folder import EVIL, SECTIONS, write_pages, write_run


@pytest.fixture
def run(tmp_path, conversations, invented_films):
    return write_run(tmp_path / "mini", conversations["test"][:40], invented_films, seeds=(0, 1))


@pytest.fixture
def page(run, data_dir):
    (run / "data").symlink_to(data_dir)
    return written(run)


def written(*runs):
    """The text of the page about these runs."""
    return write_pages(runs, runs[0] / "report.html").read_text()


def test_the_page_has_its_parts(page):
    for part in SECTIONS:
        anchor = part.lower().replace(" ", "-")
        assert f'<a href="#{anchor}">{part}</a>' in page
        assert f'<h2 id="{anchor}">{part}</h2>' in page
    assert "<title>SafeRec: mini</title>" in page
    assert "3 arms, 2 seeds, 40 test items" in page
    assert "Means over 2 seeds, ± their standard deviation" in page
    assert "95% intervals from 100 bootstrap resamples of 40 items" in page
    assert "against SFT without safety, Holm-corrected per metric over 2 comparisons" in page
    assert sum(page.count(f'<li class="{state}">') for state in ("holds", "fails", "open")) == 5
    assert "Safe-SFT cuts SVR@10 against SFT: <b>holds</b>" in page
    assert "relevance-only RL was not scored" in page
    assert page.count("<article") == 2
    assert "entropy by step: Safe-GDPO ends at 1.5" in page
    assert "the data set was not found" not in page


def test_nothing_is_fetched(page):
    assert re.findall(r'(?:src|href|action)="(?!#|data:,)[^"]*"', page) == []
    assert re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|<iframe|<object", page) == []
    assert "default-src 'none'" in page


def test_what_models_write_stays_text(page):
    assert EVIL not in page
    assert "onerror=alert(1)&gt; {{nav}} &amp; &#34;quoted&#34; &lt;/script&gt;" in page
    assert page.count("<script") == page.count("</script>") == 1


def test_cells_say_how_sure_a_change_is(page):
    """Safe lists have no violation at all: SVR@10 falls by the baseline's mean, for certain."""
    cells = re.findall(r'<span class="change[^"]*" title="([^"]*)">([^<]*)', page)
    assert len(cells) == 2 * (2 * 5 + 3)
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
    # Safe-GDPO is the sixth arm: solid and full in the first run, dashed and hollow in the second.
    for key, css in (("mini (1)", "s5 d0"), ("mini (2)", "s5 d2")):
        assert f'<g class="{css}" data-series="{key}/safe-gdpo" data-label=' in page
    assert '<th scope="row">the whole answer</th>' in page
    assert "the data set was not found" in page


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
    run = write_run(tmp_path / "mini", conversations["test"][:5], invented_films)
    path = run / "seed-0" / "safe-gdpo" / "samples.jsonl"
    first, rest = path.read_text().split("\n", 1)
    path.write_text(f"{first[:-40]}\n{rest}")
    with pytest.raises(UserError, match=r"samples\.jsonl, line 1 is damaged"):
        write_pages([run], out)
    assert out.read_text() == "old"


def far_off(run, films):
    """Writes into the first kept group a film that violates, its year 40 years off; its line."""
    path = run / "seed-0" / "safe-gdpo" / "samples.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    traits, oracle = [rows[0]["record"]["assigned_trait"]], film_oracle(films)
    film = next(film for film in films if oracle.violates(film.title, film.year, traits))
    rows[0]["completions"][0] = listed((film.title, film.year + 40))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"{film.title} ({film.year + 40})"


@pytest.mark.parametrize("inside", [True, False])
def test_samples_are_marked_by_the_oracle_that_the_run_had(
    tmp_path, conversations, invented_films, data_dir, inside
):
    """A run that takes a film by its title, with its data in a folder that the run names."""
    run = write_run(tmp_path / "mini", conversations["test"][:5], invented_films)
    line = far_off(run, invented_films)
    mark = rf"{re.escape(line)}<span class=\"mark ([a-z]*)\">"
    # Nothing tells where the data are: nothing is known of the film, and the page says so.
    page = written(run)
    assert "The run: the data set was not found" in page
    assert re.findall(mark, page) == []
    where = run / "inputs" if inside else tmp_path / "elsewhere"
    where.symlink_to(data_dir)
    recorded = "inputs" if inside else str(where)
    (run / "run.json").write_text(json.dumps({"data_dir": recorded}))
    page = written(run)
    assert "the data set was not found" not in page
    assert re.findall(mark, page) == ["unknown"]
    options = {"threshold": 0.5, "trait_thresholds": {}, "year_tolerance": 100}
    (run / "preset.json").write_text(json.dumps({"oracle": options, "official": None}))
    assert re.findall(mark, written(run)) == ["violation"]
    # Nothing violates from a risk above one on.
    options["threshold"] = 1.5
    (run / "preset.json").write_text(json.dumps({"oracle": options, "official": None}))
    assert re.findall(mark, written(run)) == []


def test_data_that_are_gone_are_told(tmp_path, conversations, invented_films, data_dir):
    """Data beside the run are not those of a run that names another folder."""
    run = write_run(tmp_path / "mini", conversations["test"][:5], invented_films)
    (run / "data").symlink_to(data_dir)
    assert "the data set was not found" not in written(run)
    (run / "run.json").write_text(json.dumps({"data_dir": str(tmp_path / "gone")}))
    assert "the data set was not found" in written(run)


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


def test_data_that_cannot_be_read_are_told(tmp_path, conversations, invented_films, data_dir):
    """The marks want the data, and nothing else on the page: the rest is there."""
    run = write_run(tmp_path / "mini", conversations["test"][:5], invented_films)
    shutil.copytree(data_dir, run / "data")
    for path in (run / "data").rglob("*.array_record*"):
        path.write_bytes(b"cut")
    page = written(run)
    assert re.search("The run: [^<]*(data|damaged)[^<]*Only the ground truth that was", page)
    assert 'id="results"' in page and "<article" in page
