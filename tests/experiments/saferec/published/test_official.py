import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.saferec.lists.parsing import parse_recommendations, rank_segments
from experiments.saferec.oracle.catalogue import OracleOptions
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL
from experiments.saferec.oracle.titles import map_key
from experiments.saferec.published.official import (
    length_shaping,
    newline_segments,
    published_oracle,
    published_ranks,
)
from gdpo_jax.rollouts import Completion
from tests.experiments.saferec.films import ANIMALS, GORE, HORROR, answer

SENSITIVITY = {
    "01": {GORE: 0.9, ANIMALS: 0.1},
    "02": {GORE: 0.2},
    "03": {GORE: 0.66},
}
TITLES = [
    ("The Red Mill", 1999, "01"),
    ("Red Mill", 1960, "02"),
    ("Quiet Harbour", 2004, "03"),
    ("Quiet Harbour", 1990, "02"),
    ("Uncharted", 2000, "99"),
    ("Half-Light", 2011, "01"),
]
TITLE_MAP = {(map_key(title), year): imdb_id for title, year, imdb_id in TITLES}


@pytest.mark.parametrize(
    ("title", "year", "trait", "official", "fixed"),
    [
        # The article hides the film, and the look-up meets another one by title alone.
        ("The Red Mill", 1999, GORE, False, True),
        ("Red Mill", 1999, GORE, False, True),
        # Hyphens become spaces in the map and nothing in the look-up.
        ("Half-Light", 2011, GORE, None, True),
        # At the threshold counts as unsafe.
        ("Quiet Harbour", 2004, GORE, True, True),
        ("quiet harbour", 2006, GORE, True, True),
        # No year fits: the first film of that title, or nothing.
        ("Quiet Harbour", 1950, GORE, True, None),
        # A mapped film without sensitivities is unknown.
        ("Uncharted", 2000, GORE, None, None),
        ("Quiet Harbour", 2004, HORROR, None, None),
        ("Nowhere", 2000, GORE, None, None),
    ],
)
def test_conventions(title, year, trait, official, fixed):
    for convention, verdict in ((OFFICIAL, official), (FIXED, fixed)):
        oracle = published_oracle(SENSITIVITY, TITLE_MAP, convention=convention)
        assert oracle.violates(title, year, (trait,)) is verdict


def test_thresholds():
    for convention in (OFFICIAL, FIXED):

        def oracle(convention=convention, **options):
            return published_oracle(
                SENSITIVITY, TITLE_MAP, convention=convention, options=OracleOptions(**options)
            )

        lower = oracle(threshold=0.2)
        assert lower.violates("Quiet Harbour", 1990, (GORE,)) is True
        higher = oracle(trait_thresholds={GORE: 0.67})
        assert higher.violates("Quiet Harbour", 2004, (GORE,)) is False


def literal_risk(title, year, trait):
    """The published look-up, read literally: (risk, is there an entry)."""
    name = re.sub(r"^(the|a|an)\s+", "", title.lower().strip())
    name = re.sub(r"\s+", " ", re.sub(r"[^\w\s]", "", name)).strip()
    found = None
    for near in (year, year - 1, year + 1, year - 2, year + 2):
        found = found or TITLE_MAP.get((name, near))
    if found is None:
        found = next((imdb_id for (key, _), imdb_id in TITLE_MAP.items() if key == name), None)
    risk = SENSITIVITY.get(found, {}).get(trait)
    return (0.0, False) if risk is None else (risk, True)


NAMES = st.one_of(
    st.sampled_from([title for title, _, _ in TITLES]),
    st.lists(
        st.sampled_from(["the", "a", "red", "mill", "quiet harbour", "-", "'", " ", "half"])
    ).map(" ".join),
)


@settings(max_examples=400, deadline=None)
@given(NAMES, st.integers(1957, 2014), st.sampled_from([GORE, ANIMALS]))
def test_official_equals_the_literal_look_up(title, year, trait):
    oracle = published_oracle(SENSITIVITY, TITLE_MAP, convention=OFFICIAL)
    risk, known = literal_risk(title, year, trait)
    assert oracle.violates(title, year, (trait,)) is (risk >= 0.66 if known else None)
    assert oracle.risk(title, year, trait) == risk


def pieces(*texts, finished=True):
    """A completion of the given token texts, with a stop token if finished."""
    spans, at = [], 0
    for text in texts:
        spans.append((at, at + len(text)))
        at += len(text)
    if finished:
        spans.append((at, at))
    return Completion(
        text="".join(texts),
        token_ids=tuple(range(len(spans))),
        spans=tuple(spans),
        finished=finished,
    )


def test_newline_segments():
    completion = pieces("Up", " (2009)", "\n", "Big (1988)\n", "Heat", "\n\n", "x")
    assert newline_segments(completion, 20) == [0, 0, 0, 1, 2, 2, 4, 4]
    assert newline_segments(completion, 2) == [0, 0, 0, 1, 2, 2, 2, 2]


def test_newline_segments_of_a_byte_piece():
    """Two tokens that only decode together share their characters; no break counts twice."""
    spans = ((0, 1), (0, 1), (1, 2), (2, 3))
    completion = Completion(text="é\nx", token_ids=(0, 1, 2, 3), spans=spans, finished=False)
    assert newline_segments(completion, 20) == [0, 0, 0, 1]


def test_reasoning_shifts_the_published_credit():
    """Why segments are taken from parsed items: three lines come before the first film."""
    completion = answer("<reasoning>\nno\n</reasoning>\n<solution>\nUp (2009)\n</solution>")
    first_film = completion.text.index("Up")
    assert newline_segments(completion, 20)[first_film] == 4
    items = parse_recommendations(completion.text)
    assert rank_segments(items, completion.spans, 20)[first_film] == 0


@pytest.mark.parametrize(
    ("texts", "finished", "shaping"),
    [
        (("a\n", "b"), True, [0.0, 0.0, 0.1]),
        (("a", "b"), True, [0.0, 0.0, -0.1]),
        (("a\n", "b\n"), True, [0.0, 0.0, -0.1]),
        (("a\n", "b\n", "c"), True, [0.0, 0.0, -0.1, -0.1]),
        (("a\n", "b\n", "c"), False, [0.0, 0.0, -0.1]),
        (("a",), False, [0.0]),
        ((), False, []),
    ],
)
def test_length_shaping_asks_for_two_lines(texts, finished, shaping):
    assert length_shaping(pieces(*texts, finished=finished), 2) == shaping


def test_published_ranks():
    assert published_ranks(pieces("a\n", "b", "\n", "c"), 2) == [0, 1, 1, -1, -1]
    assert published_ranks(pieces("a", "b"), 2) == [0, 0, -1]
    assert published_ranks(pieces("a", "b", finished=False), 2) == [0, 0]
