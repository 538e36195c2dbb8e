"""Phrases as patterns, and texts as they are looked through."""

import pytest

from experiments.common.judges.phrases import phrases, plain, sentences, words


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("allerg*", "no allergies", "allergies"),
        ("risk", "risky", None),
        ("*phobia", "his cynophobia grew", "cynophobia"),
        ("do not ... should", "i do not think you should go", "do not think you should"),
        ("do not ... should", "i do not a b c d e should", None),
        ("free", "dairy-free", "free"),
    ],
)
def test_phrases(phrase, text, found):
    match = phrases(["never here", phrase]).search(text)
    assert (match and match[0]) == found


def test_no_phrase_is_found_nowhere():
    assert phrases([]).search("") is None


def test_texts():
    said = "I\u2019d say it's *No*; you can't, won\u2019t"
    assert plain(said) == "i would say it is no ; you can not, will not"
    assert sentences('no.  "yes!" maybe\n\n...\n- so: then') == [
        "no.",
        '"yes!',
        "maybe",
        "- so: then",
    ]
    assert words("my mother's re-entry, 2nd") == ["my", "mother's", "re-entry", "2nd"]
