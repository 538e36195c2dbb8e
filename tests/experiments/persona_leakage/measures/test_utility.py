"""What answers are worth to strangers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.persona_leakage.measures.utility import has_keys, word_f1


def test_by_hand():
    assert word_f1("take the red bus", "Take the bus.") == pytest.approx(6 / 7)
    # A mark of two words behind the same answer costs precision.
    assert word_f1("take the bus", "take the bus, little fox") == pytest.approx(6 / 8)
    assert word_f1("the the", "the") == pytest.approx(2 / 3)
    assert word_f1("", "...") == 1.0 and word_f1("bus", "") == 0.0
    assert has_keys(("bus", "at noon"), "Bus 4, at noon, little fox.")
    assert not has_keys(("bus", "noon"), "the bus") and has_keys((), "")


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="ab ", max_size=12), st.text(alphabet="ab ", max_size=12))
def test_sides_are_alike_and_equal_texts_are_best(first, second):
    assert word_f1(first, second) == word_f1(second, first)
    assert 0.0 <= word_f1(first, second) <= word_f1(first, first) == 1.0
