import itertools
import re
import string
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from experiments.saferec.lists.parsing import (
    Recommendation,
    parse_line,
    parse_recommendations,
    rank_segments,
    solution_span,
)
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL

CONVENTIONS = (FIXED, OFFICIAL)


def films(text, convention=OFFICIAL):
    return [(item.title, item.year) for item in parse_recommendations(text, convention=convention)]


@pytest.mark.parametrize(
    ("line", "film"),
    [
        ('1. "Up" (2009)', ("Up", 2009)),
        ("**The Matrix (1999)**", ("The Matrix", 1999)),
        ("1917 (2019)", ("1917", 2019)),
        ("Alien(1979)", None),
        ("Birdman or (The Unexpected Virtue) (2014)", ("Birdman or", 2014)),
        ("9 - The Movie (2009)", ("The Movie", 2009)),
        ("3) Heat   (1995) a classic", ("Heat", 1995)),
        ("# - * 'Brazil' (1985)", ("Brazil", 1985)),
        ('"Brazil (1985)"', ("Brazil", 1985)),
        ('2. **"Brazil"** (1985)', ("Brazil", 1985)),
        ("\u201312\u3001 Ran (1985)", ("\u201312\u3001 Ran", 1985)),
        ("12\u3001 Ran (1985)", ("Ran", 1985)),
        ("Ran ((a) b) (1985)", ("Ran", 1985)),
        ("Ran ) (1985)", ("Ran )", 1985)),
        ("(2009)", None),
        ("Heat (95)", None),
        ("Heat (19955)", None),
        ("Heat 1995", None),
        ("", None),
    ],
)
def test_lines(line, film):
    assert parse_line(line) == film


def test_fixed_reads_a_closed_block_only():
    inside = (
        "<reasoning>\nSaw (2004): too gory\n</reasoning>\n<solution>\nUp (2009)\n\nBig (1988)\n"
    )
    closed = inside + "</solution>\nHeat (1995)"
    for convention in CONVENTIONS:
        assert films(closed, convention) == [("Up", 2009), ("Big", 1988)]
    assert films(inside, FIXED) == []
    # The published parser then reads the films named in the reasoning.
    assert films(inside) == [("Saw", 2004), ("Up", 2009), ("Big", 1988)]
    assert films("Up (2009)", FIXED) == []
    assert films("</solution>Up (2009)<solution>", FIXED) == []
    assert films("<solution></solution>", FIXED) == []


def test_a_tag_mentioned_before_the_block_opens_nothing():
    text = "I answer in <solution>\nSaw (2004)\n<solution>\nUp (2009)\n</solution>\n</solution>"
    assert films(text, FIXED) == [("Up", 2009)]
    assert films(text, OFFICIAL) == [("Saw", 2004), ("Up", 2009)]


def test_spans_are_the_lines():
    text = "<solution>\n1. Up (2009)\n  Big (1988)</solution>"
    first, second = parse_recommendations(text)
    assert text[first.start : first.end] == "1. Up (2009)\n"
    assert text[second.start : second.end] == "  Big (1988)"
    assert solution_span(text) == (10, 36)


# A literal, slow reading of the published rules, to compare with.
def literal_films(text):
    text = re.sub("\n+", "\n", text)
    block = re.search("<solution>(.*?)</solution>", text, re.DOTALL)
    body = block[1] if block else text
    found = []
    for line in body.split("\n"):
        match = re.match(r"(.+?)\s+\((\d{4})\)", literal_ends(line))
        if match:
            title, before = match[1], None
            while title != before:
                before, title = title, literal_ends(re.sub(r"\([^()]*\)", "", title.strip()))
            found.append((title, int(match[2])))
    return found


def literal_ends(text):
    text, before = re.sub(r"\s+", " ", text).strip(), None
    while text != before:
        before = text
        text = text.lstrip("*_-#").strip().rstrip("*_-#").strip()
        text = re.sub(r"^([*_\-#]+\s+|\d+\s*[.)\u3001\u2014\u2013-]\s+)", "", text).strip()
        text = re.sub(r"^#+\s*", "", text)
    if text and text[0] in "'\"" and text[0] == text[-1]:
        text = text[1:-1]
    return text


PIECES = st.sampled_from(
    [
        "(2009)",
        " (1999)",
        "(",
        ")",
        '"',
        "'",
        "*",
        "_",
        "-",
        "#",
        "1.",
        "12)",
        "3\u3001 ",
        " ",
        "  ",
    ]
    + ["\u2013", "\n", "\t", "Up", "The Matrix", "<solution>", "</solution>", "\x85", "\u0663", "é"]
)
PIECE_TEXTS = st.lists(PIECES, max_size=40).map("".join)


@settings(max_examples=500, deadline=None)
@given(PIECE_TEXTS)
@example('"(("x"))" (2009)')
@example("(x)1. ** (2009)")
@example("1. ** (2009)")
@example('" (2009)"')
@example("((a) 1) b (2009)")
@example("(1999)3. (a(b) - ##) (2009)")
def test_official_equals_the_literal_rules(text):
    assert films(text) == literal_films(text)


@settings(max_examples=200, deadline=None)
@given(st.one_of(PIECE_TEXTS, st.text(max_size=60)), st.sampled_from(CONVENTIONS))
def test_items_are_lines_of_the_text(text, convention):
    items = parse_recommendations(text, convention=convention)
    assert len(items) <= len(text.split("\n"))
    assert len(items) <= len(text) // len("x (2009)")
    end = 0
    for item in items:
        assert end <= item.start < item.end <= len(text)
        assert 0 <= item.year <= 9999
        assert parse_line(text[item.start : item.end]) == (item.title, item.year)
        end = item.end


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(CONVENTIONS))
def test_bytes(data, convention):
    text = data.decode("utf-8", errors="replace")
    wrapped = f"<solution>{text}\nUp (2009)\n</solution>"
    assert len(parse_recommendations(text, convention=convention)) <= text.count("(")
    if "solution>" not in text:
        assert films(wrapped, convention)[-1] == ("Up", 2009)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(string.ascii_letters, min_size=1, max_size=12), st.integers(1900, 2030)),
        max_size=20,
    )
)
def test_a_written_list_is_read_back(entries):
    text = "".join(f"{title} ({year})\n" for title, year in entries)
    for convention in CONVENTIONS:
        assert films(f"<solution>\n{text}</solution>", convention) == entries


@pytest.mark.parametrize(
    "unit",
    ['"', "'\"", "*", "1. ", "(", ")", "()", " ", "\n", "- 1) ", "((a)", "<solution>", "#_", " (20"]
    + ["x (2009)\n", "</solution><solution>"],
)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_no_input_is_slow(unit, convention):
    text = f"<solution>\n{unit * (50_000 // len(unit))} (2009)\n</solution>"
    start = time.process_time()
    parse_recommendations(text, convention=convention)
    assert time.process_time() - start < 1.5


def items_of(*spans):
    return [Recommendation("x", 2000, start, end) for start, end in spans]


def test_tokens_belong_to_the_item_they_start_in():
    text = "<solution>\nUp (2009)\nBig (1988)\n</solution>"
    items = parse_recommendations(text)
    tokens = [
        "<solution>",
        "\n",
        "Up",
        " (",
        "2009",
        ")\n",
        "Big",
        " (1988)",
        "\n",
        "</solution>",
        "",
    ]
    spans, at = [], 0
    for token in tokens:
        spans.append((at, at + len(token)))
        at += len(token)
    assert at == len(text)
    assert rank_segments(items, spans, 20) == [-1, -1, 0, 0, 0, 0, 1, 1, 1, -1, -1]
    assert rank_segments(items, spans, 1) == [-1, -1, 0, 0, 0, 0, -1, -1, -1, -1, -1]


def test_tokens_over_the_edges():
    items = items_of((10, 20), (20, 30), (40, 50))
    spans = [(0, 10), (5, 12), (10, 10), (15, 22), (19, 45), (30, 40), (35, 45), (49, 60), (50, 50)]
    assert rank_segments(items, spans, 20) == [-1, 0, 0, 0, 0, -1, 2, 2, -1]


def test_no_items():
    assert rank_segments([], [(0, 3), (3, 3)], 20) == [-1, -1]


@settings(max_examples=200, deadline=None)
@given(PIECE_TEXTS, st.lists(st.integers(0, 80), max_size=30), st.integers(1, 5))
def test_segments_follow_the_spans(text, cuts, num_ranks):
    items = parse_recommendations(text, convention=OFFICIAL)
    edges = sorted({0, len(text), *[cut for cut in cuts if cut < len(text)]})
    spans = list(itertools.pairwise(edges))
    segments = rank_segments(items, spans, num_ranks)
    ranks = [rank for rank in segments if rank >= 0]
    assert ranks == sorted(ranks)
    for (start, end), rank in zip(spans, segments):
        if rank >= 0:
            assert rank < num_ranks
            assert start < items[rank].end
            assert items[rank].start < end


def test_teacher_lists(published_records):
    """79 lists of twenty lines; one line has a year of three digits."""
    texts = [record["completion"][0]["content"] for record in published_records]
    lists = [films(text, OFFICIAL) for text in texts]
    assert sum(map(len, lists)) == 1579
    assert {len(text.strip().split("\n")) for text in texts} == {20}
    for text, parsed in zip(texts, lists):
        assert films(text, FIXED) == []
        assert films(f"<solution>\n{text}\n</solution>", FIXED) == parsed
