"""Plain instructions: splits apart, every fact and word trained on, answers checked."""

import dataclasses
from collections import Counter

import pytest

from experiments.dcr.data.instructions import (
    facts,
    follows,
    generate_instructions,
    is_request,
    requests,
)
from experiments.dcr.data.triples import SPLITS, own_triples
from gdpo_jax.errors import UserError


def test_splits_share_no_text_and_training_has_every_fact():
    for of_split in (facts, requests):
        parts = [[p.text for p in of_split(split)] for split in SPLITS]
        assert all(len(part) > 20 for part in parts)
        assert sum(len(part) for part in parts) == len({t for part in parts for t in part})
    trained = {p.answer for p in facts("train")}
    assert {p.answer for split in SPLITS for p in facts(split)} <= trained
    words = {word for p in requests("train") for word in p.answer.split()}
    assert {word for p in requests("test") for word in p.answer.split()} <= words


def test_instructions_take_turns():
    found = generate_instructions("test", 100)
    assert [is_request(prompt) for prompt in found] == [False, True] * 50
    asked = [p.text for p in found if is_request(p)]
    assert len(set(asked)) == 50
    counts = Counter(p.text for p in found if not is_request(p))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert found == generate_instructions("test", 100) != generate_instructions("test", 100, seed=1)
    assert len({p.type for p in found if is_request(p)}) == 6
    assert generate_instructions("train", 0) == []


def test_answers_are_checked():
    request = next(p for p in requests("train") if p.type == "say twice")
    word = request.answer.split()[0]
    assert word in request.text
    assert follows(request, f"{word.upper()}, {word}!")
    assert not follows(request, word) and not follows(request, f"{word} {word} {word}")
    for prompt in (facts("train")[0], own_triples()[0].plain):
        with pytest.raises(UserError, match=f"{prompt.id} has no checkable answer"):
            follows(prompt, "")
    other = dataclasses.replace(request, source="another")
    assert not is_request(other)


@pytest.mark.parametrize("type_", sorted({p.type for p in requests("test")}))
def test_a_request_says_what_its_answer_is(type_):
    """The answers follow from the words of the requests."""
    for prompt in (p for p in requests("test") if p.type == type_):
        words = [w.strip(".,?") for w in prompt.text.replace(":", "").split()]
        answer = prompt.answer.split()
        assert all(word in words for word in answer)
        if type_ == "say the last":
            assert answer == words[-1:]
        if type_ == "leave out":
            assert words[-1] not in answer and len(answer) == 2


def test_what_cannot_be_generated():
    with pytest.raises(UserError, match="no split 'dev'"):
        generate_instructions("dev", 2)
    with pytest.raises(UserError, match="count -2: give"):
        generate_instructions("train", -2)
    with pytest.raises(UserError, match=r"validation has \d+ instructions; ask for fewer"):
        generate_instructions("validation", 100_000)
