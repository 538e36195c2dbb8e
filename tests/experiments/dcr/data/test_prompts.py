"""Prompts as JSON rows, and when two texts are the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.dcr.data.normalized import first_alike, normalized
from experiments.dcr.data.prompts import KINDS, SafetyPrompt, from_record, to_record
from gdpo_jax.errors import UserError

TEXTS = st.text(st.sampled_from("aB .!?\n'ßİ4"), max_size=12)
PROMPT = SafetyPrompt(
    id="own/1", text="Hi!", kind="plain", type="greeting", source="own", cluster="own/1"
)


@settings(max_examples=30)
@given(TEXTS, st.sampled_from(KINDS), TEXTS)
def test_a_record_gives_the_prompt_back(text, kind, answer):
    prompt = SafetyPrompt(
        id="x", text=text, kind=kind, type="t", source="s", cluster="c", answer=answer
    )
    assert from_record({**to_record(prompt), "other": 1}) == prompt


def test_wrong_records_are_named():
    record = to_record(PROMPT)
    with pytest.raises(UserError, match="prompt own/1: text should be text, got 3; build the"):
        from_record(record | {"text": 3})
    del record["rejected"]
    with pytest.raises(UserError, match="prompt own/1: rejected should be text, got None"):
        from_record(record)
    with pytest.raises(UserError, match="prompt own/1: no kind 'evil'; give plain, seeming, toxic"):
        from_record(to_record(PROMPT) | {"kind": "evil"})


def test_case_signs_and_spaces_do_not_count():
    assert normalized("  How do I\n STOP it?!") == "how do i stop it"
    assert normalized("It's") == normalized("it s")
    assert normalized("???") != normalized("...")


@settings(max_examples=30)
@given(TEXTS)
def test_normalizing_twice_changes_nothing(text):
    assert normalized(normalized(text)) == normalized(text)


def test_equal_texts_share_the_cluster_of_the_first():
    other = SafetyPrompt(
        id="own/2", text="hi", kind="plain", type="greeting", source="own", cluster="own/2"
    )
    third = SafetyPrompt(
        id="own/3", text="Hi", kind="plain", type="greeting", source="own", cluster="a word"
    )
    assert [p.cluster for p in first_alike([PROMPT, other, third])] == ["own/1", "own/1", "a word"]
