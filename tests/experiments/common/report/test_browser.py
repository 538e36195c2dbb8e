"""Several browsers of items on one page, by keyboard and by pointer, in a Chromium."""

import pytest
from markupsafe import Markup

from experiments.common.report.browser import Item, browser
from experiments.common.report.charts import Entry, Series, Style, legend, line_chart
from experiments.common.report.page import write_page

pytestmark = pytest.mark.slow


def items(noun, count):
    return [Item(noun, f"{noun} {n}", Markup("<p>{} {}</p>").format(noun, n)) for n in range(count)]


@pytest.fixture
def page(tmp_path, open_page):
    sections = {
        "Pairs": browser(items("pair", 3), prefix="pair"),
        "Dialogues": browser(items("dialogue", 2), prefix="dialogue", label="Dialogue"),
        "Curves": legend([Entry(f"k{n}", f"arm {n}", Style(n)) for n in range(10)])
        + line_chart(
            "ten",
            [
                Series(f"k{n}", f"arm {n}", Style(n), [[(x, float(x + n)) for x in range(9)]])
                for n in range(10)
            ],
        ),
    }
    return open_page(write_page("t", sections, tmp_path / "page.html"))


def test_each_browser_leafs_through_its_own_items(page):
    pairs, dialogues = page.locator("#pair-view"), page.locator("#dialogue-view")
    assert (pairs.inner_text(), dialogues.inner_text()) == ("pair 0", "dialogue 0")
    page.locator("#pair-after").click()
    assert (pairs.inner_text(), dialogues.inner_text()) == ("pair 1", "dialogue 0")
    page.locator("#dialogue-after").focus()
    page.keyboard.press("ArrowRight")
    assert (pairs.inner_text(), dialogues.inner_text()) == ("pair 1", "dialogue 1")
    # The last one stays, and says so; the other browser is in its middle.
    page.keyboard.press("Enter")
    assert dialogues.inner_text() == "dialogue 1"
    assert page.locator("#dialogue-after").get_attribute("aria-disabled") == "true"
    assert page.locator("#pair-after").get_attribute("aria-disabled") == "false"
    page.locator("#pair-choice").select_option(label="pair 2")
    assert page.locator("#pair-told").text_content() == "pair 2"
    assert pairs.inner_text() == "pair 2"
    assert page.messages == []


def test_ten_lines_differ_in_colour_or_dash(page):
    drawn = page.evaluate(
        "[...document.querySelectorAll('svg .line.main')].map(e => {"
        " const s = getComputedStyle(e); return s.stroke + '|' + s.strokeDasharray })"
    )
    assert len(drawn) == len(set(drawn)) == 10
    swatches = page.evaluate(
        "[...document.querySelectorAll('.legend .line')].map(e => {"
        " const s = getComputedStyle(e); return s.stroke + '|' + s.strokeDasharray })"
    )
    assert swatches == drawn
