"""Charts: numbers checked by hand, and nothing in them but escaped text."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.common.report.charts import (
    Dot,
    Entry,
    Estimate,
    Series,
    Style,
    Trail,
    Values,
    histogram,
    interval_chart,
    legend,
    line_chart,
    pareto_front,
    scatter_chart,
    ticks,
    trail_chart,
)
from experiments.common.report.charts.lines import moving_mean
from experiments.common.report.rendering import FOLDER

EVIL = '"><script>alert(1)</script>&{{ 7 * 7 }}'


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
    assert pareto_front(points, better=("less", "more")) == [4, 1, 0]
    assert pareto_front(points, better=("more", "more")) == [0]
    assert pareto_front(points, better=("less", "less")) == [4]
    # Of the second coordinate alone less is better now: (0.4, 0.9) is worse than (0.2, 0.4).
    assert pareto_front([(0.4, 0.9), (0.2, 0.4), (0.5, 0.3)], better=("more", "less")) == [2]


def test_a_series_is_the_mean_over_seeds_with_gaps_left_out():
    series = Series("k", "A", Style(0), [[(0, 1.0), (1, None), (2, 5.0)], [(0, 3.0), (1, 4.0)]])
    assert series.points() == [(0, 2.0, 1.0, 3.0), (1, 4.0, 4.0, 4.0), (2, 5.0, 5.0, 5.0)]
    long = Series("k", "A", Style(0), [[(x, float(x)) for x in range(10_000)]])
    assert len(long.points()) <= 300
    assert long.points()[-1][3] == 9999.0


def test_charts_of_nothing_and_of_one_value():
    assert line_chart("t", [Series("k", "A", Style(0), [[(0, None)]])]) == ""
    assert scatter_chart("t", [], x_label="x", y_label="y") == ""
    assert histogram("t", [Values("k", "A", Style(0), [])]) == ""
    flat = line_chart("<t>", [Series("k", "A&B", Style(0), [[(0, 0.0)]])])
    assert "nan" not in flat
    assert "&lt;t&gt; by step: A&amp;B ends at 0" in flat
    assert "nan" not in histogram("t", [Values("k", "A", Style(0), [0.0, 0.0])])
    dot = scatter_chart("t", [Dot("k", "A", Style(0), 0.0, 0.0)], x_label="x", y_label="y")
    assert "nan" not in dot


def test_intervals_stand_under_one_another():
    rows = [
        Estimate("k", "A & B", Style(0), 0.5, 0.25, 0.75, note="p 0.01"),
        Estimate("l", "C", Style(1), 0.0, -0.5, 0.5, faint=True),
    ]
    chart = interval_chart("<gap>", rows, reference=0.0)
    assert "A &amp; B: 0.5000 (0.2500 to 0.7500), p 0.01; C: 0.0000 (-0.5000 to 0.5000)" in chart
    assert chart.count('class="reference"') == chart.count('class="dot hollow"') == 1
    # The reference runs through the mark that lies on it: 138 + 0.5625 / 1.375 x 210 = 223.91.
    assert 'class="reference" d="M223.91 ' in chart
    assert re.search(r'class="dot hollow" d="[^"]*" transform="translate\(223\.91 ', chart)
    assert interval_chart("t", []) == ""
    assert "nan" not in interval_chart("t", [Estimate("k", "A", Style(0), 0.0, 0.0, 0.0)])


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
    one = line_chart("t", [Series("k", "A", Style(0), [run])], smooth=True)
    assert one.count("line raw") == one.count("line main") == 1
    two = line_chart("t", [Series("k", "A", Style(0), [run, run])], smooth=True)
    assert two.count("line raw") == 0
    assert two.count('class="band"') == 1


def test_ten_styles_and_an_eleventh():
    """Colour, dash and marker: ten pairs of colour and dash, ten markers."""
    styles = [Style(place) for place in range(10)]
    assert [style.css for style in styles] == [
        "s0 d0", "s1 d0", "s2 d0", "s3 d0", "s4 d0", "s5 d0", "s0 d1", "s1 d1", "s2 d1", "s3 d1"
    ]  # fmt: skip
    assert len({style.mark(0, 0, 1) for style in styles}) == 10
    # The eleventh has the marker of the first, in another colour and dash.
    assert Style(10).mark(0, 0, 1) == Style(0).mark(0, 0, 1)
    assert Style(10).css == "s4 d1"
    # A second run: the same colour and marker, another dash than anything of the first, hollow.
    second = [Style(place, variant=1) for place in range(10)]
    assert {style.css for style in styles}.isdisjoint(style.css for style in second)
    assert all(style.hollow and 'class="dot hollow"' in style.mark(0, 0, 1) for style in second)


def test_the_page_knows_every_colour_and_dash():
    css = (FOLDER / "page.css").read_text()
    for place in range(24):
        colour, dash = Style(place).css.split()
        assert f".{colour} {{ color: var(--{colour}); }}" in css
        assert f"--{colour}: light-dark(" in css
        assert dash == "d0" or f".{dash} .line" in css
    dashes = re.findall(r"\.d\d \.line[^{]*\{ stroke-dasharray: ([^;]*);", css)
    assert len(set(dashes)) == 3


def test_a_front_is_drawn_where_both_directions_are_known():
    dots = [Dot("a", "A", Style(0), 0.0, 0.0), Dot("b", "B", Style(1), 1.0, 1.0)]
    plain = scatter_chart("t", dots, x_label="x", y_label="y")
    assert 'class="front"' not in plain
    half = scatter_chart("t", dots, x_label="x", y_label="y", better=("less", ""))
    assert 'class="front"' not in half
    both = scatter_chart("t", dots, x_label="x", y_label="y", better=("less", "more"))
    [path] = re.findall('class="front" d="([^"]*)"', both)
    assert path.count("L") == 1  # each is better in one of the two
    best = scatter_chart("t", dots, x_label="x", y_label="y", better=("more", "more"))
    [path] = re.findall('class="front" d="([^"]*)"', best)
    assert path.count("L") == 0


def drawings(text):
    """One of each chart with the text wherever a chart takes one."""
    return [
        line_chart(text, [Series(text, text, Style(0), [[(0, 1.0), (1, 2.0)]])], x_label=text),
        trail_chart(
            text, [Trail(text, text, Style(0), [(0, 1, text)])], x_label=text, y_label=text
        ),
        scatter_chart(text, [Dot(text, text, Style(0), 0, 0)], x_label=text, y_label=text),
        interval_chart(
            text, [Estimate(text, text, Style(0), 0.5, 0.25, 0.75, note=text)], x_label=text
        ),
        histogram(text, [Values(text, text, Style(0), [0.0, 1.0])]),
        legend([Entry(text, text, Style(0))], label=text),
    ]


class Reader(HTMLParser):
    """Tags and texts of a drawing."""

    def __init__(self):
        super().__init__()
        self.tags, self.said = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.said += [value for _, value in attrs]

    def handle_data(self, data):
        self.said.append(data)


@pytest.mark.parametrize("place", range(6))
@given(
    text=st.one_of(
        st.just(EVIL), st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1)
    )
)
def test_texts_stay_texts(place, text):
    plain, given_text = Reader(), Reader()
    plain.feed(drawings("plain")[place])
    given_text.feed(drawings(text)[place])
    assert given_text.tags == plain.tags
    assert any(text in said for said in given_text.said)
