"""Training and test stay apart by text, type and cluster, and what was removed is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.dcr.data.formats import XSTEST_CONTRASTS
from experiments.dcr.data.normalized import normalized
from experiments.dcr.data.prompts import SafetyPrompt
from experiments.dcr.data.splits import (
    draw_parts,
    hold_out_types,
    keep_apart,
    pool,
    refinement_prompts,
    require_apart,
)
from gdpo_jax.errors import UserError


def prompt(id_, text, *, kind="toxic", type_="t", source="a", cluster=""):
    return SafetyPrompt(
        id=id_, text=text, kind=kind, type=type_, source=source, cluster=cluster or id_
    )


def xstest():
    """Two prompts of each type, of which one word is in all types."""
    types = [(name, "seeming") for name in XSTEST_CONTRASTS]
    types += [(name, "toxic") for name in dict.fromkeys(XSTEST_CONTRASTS.values())]
    return [
        prompt(f"{type_}/{n}", f"{type_} {n}", kind=kind, type_=type_, cluster=("kill", type_)[n])
        for type_, kind in types
        for n in range(2)
    ]


def test_pooling_keeps_the_first_of_each_text():
    found = pool(
        [
            prompt("1", "Stop it!"),
            prompt("2", "stop it", source="b"),
            prompt("3", "STOP  it?", source="b"),
            prompt("4", "Go on.", source="b"),
        ]
    )
    assert [p.id for p in found.prompts] == ["1", "4"]
    assert found.removed == {("a", "b"): 2}


def test_one_text_of_two_kinds_is_an_error():
    with pytest.raises(UserError, match="1 is toxic and 2, the same text, is plain; leave one"):
        pool([prompt("1", "Stop it!"), prompt("2", "Stop it", kind="plain")])


texts = st.lists(st.sampled_from(["a", "b", "c", "A!", "b?"]), max_size=6)


@given(texts, texts)
def test_nothing_of_the_test_is_left_in_training(train, test):
    trained = [prompt(f"a/{n}", text) for n, text in enumerate(train)]
    tested = [prompt(f"b/{n}", text, source="b") for n, text in enumerate(test)]
    found = keep_apart(trained, tested)
    require_apart(found.prompts, tested)
    assert len(found.prompts) + sum(found.removed.values()) == len(train)
    assert {normalized(p.text) for p in found.prompts} == {normalized(text) for text in train} - {
        normalized(text) for text in test
    }
    if found.removed:
        with pytest.raises(UserError, match=r"the test are in training \(\d of b in a\); remove"):
            require_apart(trained, tested)


def test_types_are_held_out_with_their_contrast_prompts():
    train, test = hold_out_types(xstest(), ["homonyms", "privacy_public", "privacy_fictional"])
    assert {p.type for p in test} == {
        "homonyms",
        "contrast_homonyms",
        "privacy_public",
        "privacy_fictional",
        "contrast_privacy",
    }
    assert len(train) + len(test) == len(xstest()) and not {*train} & {*test}


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (["puns"], "no type 'puns'; there are homonyms"),
        (["privacy_public"], "hold out privacy_fictional as well: they share contrast prompts"),
        (list(XSTEST_CONTRASTS), "no prompts are left for training"),
        ([], "no prompts are left for test"),
    ],
)
def test_types_that_cannot_be_held_out(held_out, message):
    with pytest.raises(UserError, match=message):
        hold_out_types(xstest(), held_out)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 99))
def test_parts_share_no_cluster(one, two, seed):
    prompts = [prompt(str(n), str(n), cluster=str(n % 10)) for n in range(30)]
    parts = draw_parts(prompts, {"one": one, "two": two}, seed=seed)
    assert [len(parts["one"]), len(parts["two"])] == [one, two]
    clusters = [p.cluster for part in parts.values() for p in part]
    assert len(clusters) == len(set(clusters))
    assert parts == draw_parts(prompts, {"one": one, "two": two}, seed=seed)


def test_too_many_parts():
    with pytest.raises(UserError, match=r"\{'one': 2\} of 1 different prompts; ask for fewer"):
        draw_parts([prompt("1", "a"), prompt("2", "a", cluster="1")], {"one": 2})


def test_refinement_with_each_kind_of_negatives():
    talk = [prompt(f"hh/{n}", f"dialogue {n}", source="hh-rlhf") for n in range(9)]
    talk.append(prompt("hh/9", "homonyms 0!", source="hh-rlhf"))
    contrast = refinement_prompts(xstest(), ["homonyms"])
    assert (len(contrast.seeming), len(contrast.toxic), len(contrast.test)) == (18, 14, 4)
    assert contrast.shared_words == 2  # both prompts on "kill"
    other = refinement_prompts(
        xstest(), ["homonyms"], negatives="dialogues", dialogues=talk, count=10
    )
    assert {p.source for p in other.toxic} == {"hh-rlhf"}
    # One of them has the text of a test prompt.
    assert (len(other.toxic), other.removed) == (9, {("a", "hh-rlhf"): 1})
    both = refinement_prompts(xstest(), ["homonyms"], negatives="both", dialogues=talk, count=5)
    assert {p.source for p in both.toxic} == {"a", "hh-rlhf"}


def test_negatives_that_do_not_fit():
    with pytest.raises(UserError, match="no negatives 'none'; there are contrast, dialogues, both"):
        refinement_prompts(xstest(), ["homonyms"], negatives="none")
    with pytest.raises(UserError, match="negatives 'both': give dialogues of HH-RLHF"):
        refinement_prompts(xstest(), ["homonyms"], negatives="both")
    with pytest.raises(UserError, match="negatives 'contrast': leave the dialogues out"):
        refinement_prompts(xstest(), ["homonyms"], dialogues=[prompt("1", "a")])
