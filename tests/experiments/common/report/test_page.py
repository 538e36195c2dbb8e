"""The page, its tables and its browser: whole, self-contained, and deaf to what a text commands."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from experiments.common.report.browser import Item, browser
from experiments.common.report.claims import verdict_list
from experiments.common.report.page import write_page
from experiments.common.report.rendering import FOLDER, render
from experiments.common.report.tables import HeatCell, heat_map, table
from experiments.common.scores.claims import Verdict

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
EVIL = '</script></style></template><img src=x onerror=alert(1)> {{ 7 * 7 }} {% raw %} "quoted"'


class Reader(HTMLParser):
    """Fails at a tag that is not closed in order, and at an id that is given twice."""

    VOID = ("meta", "link", "br")

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.tags, self.texts = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                assert value not in self.ids, value
                self.ids.add(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        self.texts.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def items(prefix, text="text"):
    return [Item(group, f"{text} {n}", Markup("<p>{}</p>").format(text)) for group in ("a", "b")
            for n in range(2)]  # fmt: skip


def sections(text="plain"):
    """One of each part, with the text wherever a part takes one."""
    return {
        "Claims": verdict_list(
            [Verdict(text, True, text), Verdict("B", False, "n"), Verdict("C", None, "m")]
        ),
        "Table": table([text, "n"], [[text, text]], title=text),
        "Heat": heat_map({text: [HeatCell(0.5, text), None]}, [text, "B"], label=text),
        "Samples": browser(items("sample", text), prefix="sample", label=text),
        "Dialogues": browser(items("dialogue"), prefix="dialogue"),
        "Nothing": browser([], prefix="none"),
    }


def written(folder, text="plain"):
    intro = Markup("<p>{}</p>").format(text)
    return write_page(text, sections(text), folder / "page.html", intro=intro).read_text()


def test_a_page_is_whole_and_asks_for_nothing(tmp_path):
    page = written(tmp_path)
    reader = read(page)
    assert page.startswith("<!doctype html>")
    assert f'http-equiv="Content-Security-Policy" content="{POLICY}"' in page
    assert re.findall(r'(?:src|href|action)="(?!#|data:,)[^"]*"', page) == []
    assert re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|<iframe|<object", page) == []
    heads = re.findall("<h2 id=[^>]*>([^<]*)</h2>", page)
    assert heads == ["Claims", "Table", "Heat", "Samples", "Dialogues"]
    assert {"claims", "samples", "theme", "readout", "content"} <= reader.ids


def test_anchors_are_plain_words(tmp_path):
    out = write_page("t", {'A "loud" one, & more?': Markup("<p>x</p>")}, tmp_path / "page.html")
    assert 'href="#a-loud-one-more"' in out.read_text()


@given(text=st.one_of(st.just(EVIL), st.text(st.characters(codec="utf-8"), min_size=1)))
def test_texts_stay_texts(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("pages")
    page = written(folder, text)
    assert read(page).tags == read(written(folder)).tags
    assert page.count("<script") == page.count("</script>") == 1


def test_every_browser_has_ids_of_its_own(tmp_path):
    page = written(tmp_path)
    ids = read(page).ids
    for prefix in ("sample", "dialogue"):
        for part in ("choice", "before", "after", "told", "view"):
            assert f"{prefix}-{part}" in ids
        assert page.count(f'<template data-item="{prefix}-') == 4
    assert re.findall('<optgroup label="([^"]*)">', page) == ["a", "b", "a", "b"]


def test_a_heat_map_shades_by_the_largest_value_and_by_direction():
    rows = {
        "gore": [HeatCell(0.5, "<b>"), None],
        "horror": [HeatCell(0.0), HeatCell(0.25)],
    }
    shown = heat_map(rows, ["A", "B"], better="less")
    assert re.findall(r"--heat:([\d.]+)", shown) == ["1.000", "0.000", "0.500"]
    assert shown.count('class="heat less"') == 3
    assert "<td>-</td>" in shown
    assert 'title="&lt;b&gt;"' in shown
    assert heat_map(rows, ["A", "B"], better="more").count('class="heat more"') == 3
    css = (FOLDER / "page.css").read_text()
    assert ".heat.less { --tone: var(--minus); } .heat.more { --tone: var(--plus); }" in css
    below = heat_map({"a": [HeatCell(-1.0), HeatCell(-2.0)]}, ["A", "B"])
    assert re.findall(r"--heat:([\d.]+)", below) == ["0.000", "0.000"]


def test_verdicts_say_whichever_way_they_went():
    shown = sections()["Claims"]
    assert re.findall('<li class="([a-z]*)">[^<]*<b>([^<]*)</b>', shown) == [
        ("holds", "holds"),
        ("fails", "fails"),
        ("open", "not run"),
    ]
    assert verdict_list([]) == ""


def test_a_template_names_a_value_that_is_missing():
    with pytest.raises(Exception, match="'columns' is undefined"):
        render("table.html", title="", label="", rows=[])


def test_the_templates_belong_to_the_package():
    """The wheel takes every file of the packages, so all a page needs must lie in one."""
    import experiments

    assert FOLDER.is_relative_to(Path(experiments.__path__[0]))
    names = {path.name for path in FOLDER.iterdir()}
    assert {"page.html", "page.css", "page.js", "results.html"} <= names
