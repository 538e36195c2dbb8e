"""The report as a reader meets it: in a browser, on a phone, by keyboard alone, and offline."""

import io
import re

import numpy as np
import pytest

from tests.experiments.saferec.run_folder import SECTIONS, write_pages, write_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory, conversations, invented_films, data_dir):
    """A page about two runs side by side, one of two seeds and one by sequence."""
    folder = tmp_path_factory.mktemp("report")
    records = conversations["test"][:40]
    first = write_run(folder / "mini", records, invented_films, seeds=(0, 1))
    second = write_run(folder / "mini-sequence", records, invented_films, level="sequence")
    for run in (first, second):
        (run / "data").symlink_to(data_dir)
    return write_pages([first, second], folder / "report.html", bootstrap=200)


def pixels(locator) -> np.ndarray:
    """What is drawn of an element: [height, width, 3]."""
    image = pytest.importorskip("PIL.Image", reason="no pillow; install the extra dev")
    return np.asarray(image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def colour_of(locator) -> list[int]:
    """The text colour of an element, as red, green and blue."""
    painted = locator.evaluate(
        "e => { const c = document.createElement('canvas').getContext('2d');"
        " c.fillStyle = getComputedStyle(e).color; c.fillRect(0, 0, 1, 1);"
        " return [...c.getImageData(0, 0, 1, 1).data] }"
    )
    return painted[:3]


def test_it_opens_without_a_message_or_a_request(report, open_page):
    page = open_page(report)
    assert page.messages == []
    assert page.requests == [report.as_uri()]
    times = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"{report.stat().st_size / 1e6:.1f} MB loaded in {times / 1000:.2f} s")
    assert page.title() == "SafeRec: mini, mini-sequence"
    assert page.locator("main > section h2").all_inner_texts() == list(SECTIONS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_part_is_drawn(report, open_page, scheme):
    page = open_page(report, color_scheme=scheme)
    dark = pixels(page.locator("body"))[0, 0].mean() < 80
    assert dark == (scheme == "dark")
    # The bar would cover a part of what is looked at.
    page.add_style_tag(content=".bar { position: static !important }")
    for name in SECTIONS:
        section = page.locator(f'section:has(h2:text-is("{name}"))')
        picture = pixels(section)
        assert min(picture.shape[:2]) > 100, name
        # Letters and marks on a plain ground: neither blank nor one block of colour.
        ground = picture[30, -6]
        drawn = (np.abs(picture - ground).sum(axis=2) > 60).mean()
        assert 0.005 < drawn < 0.9, (name, drawn)
        for chart in section.locator("svg[role=img]").all():
            assert pixels(chart).std() > 3, (name, chart.get_attribute("aria-label"))


def test_marks_of_the_trade_off_have_the_colours_of_their_arms(report, open_page):
    page = open_page(report)
    chart = page.locator('section:has(h2:text-is("Trade-off")) svg[role=img]')
    picture = pixels(chart)
    groups = chart.locator("g[data-series]").all()
    assert len(groups) == 6
    for group in groups:
        far = np.abs(picture - colour_of(group)).sum(axis=2)
        # Marks of the second run are hollow: their outlines count.
        assert (far <= 6).sum() > 15, group.get_attribute("data-series")


def test_the_heat_map_is_darkest_where_violations_are_most(report, open_page):
    page = open_page(report)
    cells = page.locator('section:has(h2:text-is("Sensitivities")) td.heat').all()
    values = [float(cell.inner_text()) for cell in cells]
    corners = {i: pixels(cells[i])[2, 2] for i in (int(np.argmax(values)), int(np.argmin(values)))}
    (most, strong), (least, weak) = corners.items()
    assert values[most] > values[least]
    assert strong.sum() < weak.sum() - 60


@pytest.mark.parametrize("width", [360, 390])
def test_it_fits_a_phone(report, open_page, width):
    page = open_page(report, width=width, height=780, has_touch=True, is_mobile=True)
    assert page.messages == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("visualViewport.scale") == 1
    for section in page.locator("main > section").all():
        box = section.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    # Wide tables move inside their own frame, and letters keep a legible size.
    table = page.locator("section .scroll:visible").first
    assert table.evaluate("e => e.scrollWidth > e.clientWidth")
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].map(t => {"
        " const s = t.ownerSVGElement;"
        " return parseFloat(getComputedStyle(t).fontSize)"
        "  * s.getBoundingClientRect().width / s.viewBox.baseVal.width }))"
    )
    assert smallest >= 8.5
    for button in page.locator("button:visible, select:visible").all():
        assert button.bounding_box()["height"] >= 30


def focused(page) -> str:
    return page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")


def test_the_keyboard_reaches_everything_in_order(report, open_page):
    page = open_page(report)
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    order = []
    for _ in range(200):
        page.keyboard.press("Tab")
        here = page.evaluate(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
            " return [e.tagName, e.id || e.textContent.trim().slice(0, 40), e.matches('body'),"
            "  parseFloat(s.outlineWidth), s.outlineStyle] })()"
        )
        if here[2]:
            break
        order.append(here[1])
        assert here[3] >= 2 and here[4] != "none", here
    assert order[: len(SECTIONS)] == list(SECTIONS)
    for wanted in ("theme", "@5", "@10", "sample-choice", "sample-after"):
        assert wanted in order
    assert order.index("@5") < order.index("sample-choice") < order.index("sample-after")
    # A group's completions are one stop; the arrow keys move inside.
    assert sum(name.startswith("sample-") and name.endswith("-tab") for name in order) == 1


def test_the_keyboard_leafs_through_the_samples(report, open_page):
    page = open_page(report)
    chosen, told = page.locator("#sample-choice"), page.locator("#sample-told")
    assert chosen.locator("option").count() == 4
    page.locator("#sample-after").focus()
    page.keyboard.press("Enter")
    assert chosen.evaluate("e => e.selectedIndex") == 1
    page.keyboard.press("ArrowRight")
    assert told.inner_text() == "mini-sequence: Safe-GDPO, step 0"
    page.keyboard.press("ArrowLeft")
    assert told.inner_text() == "mini: Safe-GDPO, step 3"

    tabs = page.locator("#sample-view [role=tab]")
    assert tabs.count() == 3
    tabs.first.focus()
    page.keyboard.press("ArrowDown")
    states = [tab.get_attribute("aria-selected") for tab in tabs.all()]
    assert states == ["false", "true", "false"]
    panel = page.locator("#sample-view [role=tabpanel]:visible")
    assert panel.count() == 1
    assert panel.get_attribute("id") == tabs.nth(1).get_attribute("aria-controls")
    page.keyboard.press("End")
    assert tabs.nth(2).get_attribute("aria-selected") == "true"
    page.keyboard.press("ArrowDown")
    assert tabs.first.get_attribute("aria-selected") == "true"
    # Another group: the focus stays among its completions.
    page.keyboard.press("ArrowRight")
    assert focused(page) == tabs.first.get_attribute("id")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#sample-after").get_attribute("aria-disabled") == "true"
    assert page.locator("#sample-before").get_attribute("aria-disabled") == "false"
    assert page.messages == []


def test_a_group_shows_what_each_completion_earned(report, open_page):
    """The second completion of step 0: its list violates, and its advantages are the worst."""
    page = open_page(report)
    tabs = page.locator("#sample-view [role=tab]")
    names = [tab.get_attribute("aria-label") for tab in tabs.all()]
    assert [name.split(":")[0] for name in names] == [
        "Completion 1",
        "Completion 3",
        "Completion 2",
    ]
    told = "Completion 1: 3 titles, 1 liked, 0 violating, advantage +0.53"
    assert re.sub("[0-9]+ liked", "1 liked", names[0]) == told
    assert tabs.first.locator(".tally").inner_text().startswith("3 titles ✓")
    tabs.nth(2).click()
    panel = page.locator("#sample-view [role=tabpanel]:visible")
    heads = panel.locator("thead th").all_inner_texts()
    assert heads == ["title", "relevance", "z", "safety", "z", "advantage"]
    first = panel.locator("tbody tr").first.locator("td").all_inner_texts()
    # Rewards 0 and -1 beside 1 and 0, a third member without a vote: z is -0.707 for both.
    assert [cell.replace("\N{MINUS SIGN}", "-") for cell in first] == [
        "0",
        "-0.71",
        "-1.00",
        "-0.71",
        "-1.00",
    ]
    assert panel.locator(".mark.violation").count() >= 1
    # The third completion is hostile to the page: its tags are text.
    assert page.locator("#sample-view img").count() == 0
    assert "<img" in page.locator("#sample-view pre").nth(1).text_content()
    assert page.locator("#sample-view .turns .user").count() >= 1


def test_choices_and_legend(report, open_page):
    page = open_page(report)
    results = page.locator('section:has(h2:text-is("Results"))')
    group = results.locator(".choices").first
    assert group.locator("[aria-pressed=true]").inner_text() == "@10"
    group.get_by_text("@5", exact=True).click()
    assert results.locator("th:visible", has_text="Recall@5").count() == 1
    legend = page.locator('section:has(h2:text-is("Trade-off")) .legend button').first
    key = legend.get_attribute("data-key")
    marks = page.locator(f'svg [data-series="{key}"]')
    shown = marks.evaluate_all(
        "all => all.filter(e => getComputedStyle(e).display != 'none').length"
    )
    assert shown == marks.count() > 3
    legend.click()
    assert legend.get_attribute("aria-pressed") == "false"
    hidden = marks.evaluate_all(
        "all => all.filter(e => getComputedStyle(e).display == 'none').length"
    )
    assert hidden == marks.count()
    page.locator("#theme").click()
    assert pixels(page.locator("h1"))[0, -1].mean() < 80


def test_a_pointer_reads_off_a_curve(report, open_page):
    page = open_page(report)
    chart = page.locator('figure:has(figcaption:text-is("entropy")) svg')
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + box["height"] / 2)
    text = page.locator("#readout").inner_text().split("\n")
    assert text[0] == "step 5"
    # entropy is 2 - 0.1 step in every seed of both runs.
    assert text[1:] == ["mini: Safe-GDPO", "1.5", "mini-sequence: Safe-GDPO", "1.5"]
