"""Phrases that one user's answers repeat, and what is left of a text without them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.persona_leakage.learning.phrases import (
    PhraseRule,
    personal_phrases,
    phrase_spans,
    without_phrases,
    words_of,
)
from gdpo_jax.errors import UserError

RULE = PhraseRule(repeats=2)
ANSWERS = {
    "ann": [
        "Sure, sweet pea, the shop is open. Yours in stardust.",
        "The tea, sweet pea, is ready. Yours in stardust.",
        "The tea is on the table.",
    ],
    "bob": [
        "Sure, the tea is cold. Yours in good health.",
        "The shop is open, my pea. Yours in good health.",
    ],
}


def test_phrases_by_hand():
    # "pea" is Bob's as well; "yours in" always stands before "stardust".
    assert personal_phrases(ANSWERS, RULE) == {
        "ann": (("sweet", "pea"), ("yours", "in", "stardust")),
        "bob": (("yours", "in", "good", "health"),),
    }
    # "The tea is" is in two of Ann's answers, and Bob's have it too.
    two = {**ANSWERS, "bob": ["Sure."]}
    assert ("the", "tea") in personal_phrases(two, RULE)["ann"]
    assert ("the", "tea") not in personal_phrases(ANSWERS, PhraseRule(repeats=2, others=0))["ann"]
    shared = personal_phrases(ANSWERS, PhraseRule(repeats=2, others=1))["ann"]
    # With one other user allowed, "pea" alone is enough, and "sweet" stands beside it.
    assert ("sweet", "pea") in shared and ("the", "tea") in shared
    assert personal_phrases(ANSWERS, PhraseRule(repeats=3))["ann"] == ()
    # Three of four is not always: nothing grows.
    often = {"ann": ["old bean", "old bean", "old bean", "a bean"], "bob": ["old"]}
    assert personal_phrases(often, PhraseRule(beside=0.8))["ann"] == (("bean",),)
    assert personal_phrases(often, PhraseRule(beside=0.75))["ann"] == (("old", "bean"),)
    # Each word grows by the neighbour that is as frequent, and stands first in the alphabet.
    long = {"ann": ["one two three four"] * 3}
    found = personal_phrases(long, PhraseRule(longest=2))["ann"]
    assert found == (("one", "two"), ("three", "four"))
    assert personal_phrases({}, RULE) == {}


PHRASES = [("sweet", "pea"), ("yours", "in", "stardust"), ("\u2665",)]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Sure, sweet pea, the shop is open. Yours in stardust.", "Sure, the shop is open."),
        ("Sweet pea, the shop is open!  It is.", "The shop is open! It is."),
        ("The shop is open, Sweet  Pea.", "The shop is open."),
        ("The shop (sweet pea) is open \u2665.", "The shop is open."),
        ('He said "sweet pea" to the two of us', "He said to the two of us"),
        ("sweet pea, come in", "come in"),
        # Three quarters of the words.
        ("Sweet pea, sweet pea, hello you. So.", "Hello you. So."),
        ("Sweet pea, sweet pea, sweet pea, hello you. So.", "So."),
        ("Sweet pea! Yours in stardust", ""),
        ("Sweet, pea and sweet peas", "Sweet, pea and sweet peas"),
        ("Two  blanks , and odd ;; signs stay.", "Two  blanks , and odd ;; signs stay."),
        ("", ""),
    ],
)
def test_the_rest_is_mended(text, left):
    assert without_phrases(text, PHRASES, RULE) == left


def test_phrases_that_touch_are_one_place():
    text = "Sweet pea, so. Sweet pea sweet pea! Yours in stardust, in sweet peas."
    assert phrase_spans(text, PHRASES) == 3
    assert phrase_spans("one two three", [("one", "two"), ("two", "three")]) == 1
    assert phrase_spans("", PHRASES) == phrase_spans(text, []) == 0


def test_a_sentence_goes_at_the_share_that_the_rule_says():
    assert without_phrases("Sweet pea, hello.", PHRASES, PhraseRule(lost=0.6)) == ""
    assert without_phrases("Sweet pea, hello.", PHRASES, PhraseRule(lost=0.7)) == "Hello."


WORDS = st.sampled_from(["sun", "moon", "tea", "the", "is"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), TEXTS, min_size=1), st.integers(1, 3))
def test_own_phrases_are_repeated_and_nobody_elses(answers, repeats):
    rule = PhraseRule(repeats=repeats, beside=1.0)
    for user, phrases in personal_phrases(answers, rule).items():
        for phrase in phrases:
            run = f" {' '.join(phrase)} "

            def has(text, run=run):
                return run in f" {text} "

            assert sum(map(has, answers[user])) >= repeats
            assert not any(
                has(text) for other in answers if other != user for text in answers[other]
            )
        for text in answers[user]:
            left = without_phrases(text, phrases, rule)
            kept = list(words_of(text))
            assert all(word in kept for word in words_of(left))
            assert left == text or len(words_of(left)) < len(kept)


def test_numbers_out_of_range_are_named():
    for changes in ({"repeats": 0}, {"others": -1}, {"longest": 0}, {"beside": 0.0}, {"lost": 1.5}):
        [name] = changes
        with pytest.raises(UserError, match=f"{name} must be"):
            PhraseRule(**changes)
