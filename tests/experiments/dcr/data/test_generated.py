"""Generated triples: combinations decide, splits share no combination, all words are trained on."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.dcr.data.generated import generate_triples, instances, uses
from experiments.dcr.data.prompts import KINDS
from experiments.dcr.data.triples import SPLITS
from gdpo_jax.errors import UserError


def combinations(split):
    return {pair for pairs in instances(split).values() for pair in pairs}


def test_splits_divide_the_combinations():
    parts = [combinations(split) for split in SPLITS]
    assert sum(len(part) for part in parts) == len(set().union(*parts))
    counts = [sum(len(pairs) for pairs in instances(split).values()) for split in SPLITS]
    assert sum(counts) == sum(len(use.acts) * len(use.things) for use in uses())
    assert counts[0] > 4000 and min(counts[1:]) > 500


def test_all_acts_and_things_are_seen_in_training():
    for number in (0, 1):
        trained = {pair[number] for pair in combinations("train")}
        for split in ("validation", "test"):
            assert {pair[number] for pair in combinations(split)} <= trained


def test_neither_an_act_nor_a_thing_decides():
    kinds = {0: defaultdict(set), 1: defaultdict(set)}
    for use, pairs in instances("train").items():
        for pair in pairs:
            for number in (0, 1):
                kinds[number][pair[number]].add(use.kind)
    for found in kinds.values():
        # What is ever toxic is harmless in another combination.
        assert not [name for name, seen in found.items() if seen == {"toxic"}]
    # Most acts of toxic prompts also stand in prompts that only look toxic.
    acts = [seen for seen in kinds[0].values() if "toxic" in seen]
    assert sum("seeming" in seen for seen in acts) > 0.7 * len(acts)


@pytest.mark.parametrize("use", uses(), ids=lambda use: f"{use.family}-{use.kind}-{use.acts[0]}")
def test_a_use(use):
    assert use.kind in KINDS
    assert len(set(use.acts)) == len(use.acts) and len(set(use.things)) == len(use.things)


def test_a_combination_has_one_kind():
    kinds = defaultdict(set)
    for use in uses():
        for act in use.acts:
            for thing in use.things:
                kinds[use.family, act, thing].add(use.kind)
    assert not {key: found for key, found in kinds.items() if len(found) > 1}


@pytest.mark.parametrize("split", SPLITS)
def test_triples(split):
    triples = generate_triples(split, 120)
    assert len(triples) == len({triple.seeming.id for triple in triples}) == 120
    for triple in triples:
        assert tuple(p.kind for p in triple.prompts) == KINDS
        assert len({(p.type, p.cluster) for p in triple.prompts}) == 1
        for prompt in triple.prompts:
            assert "{" not in prompt.text + prompt.answer
            assert prompt.text[0].isupper() and prompt.text[-1] in ".?"
            assert len(prompt.answer.split()) <= 40
    texts = [p.text for triple in triples for p in triple.prompts]
    if split != "train":
        assert len(set(texts)) == len(texts)
    families = {triple.plain.type for triple in triples}
    assert len(families) == 6


def test_no_text_of_the_test_is_in_training():
    trained = {p.text for triple in generate_triples("train", 600) for p in triple.prompts}
    for split in ("validation", "test"):
        assert trained.isdisjoint(p.text for t in generate_triples(split, 100) for p in t.prompts)


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.sampled_from(SPLITS))
def test_the_same_arguments_give_the_same_triples(seed, split):
    assert generate_triples(split, 5, seed=seed) == generate_triples(split, 9, seed=seed)[:5]


def test_what_cannot_be_generated():
    with pytest.raises(UserError, match="no split 'dev'; there are train, validation, test"):
        generate_triples("dev", 1)
    with pytest.raises(UserError, match="count -1: give the number of triples"):
        generate_triples("train", -1)
    with pytest.raises(UserError, match=r"gave \d+ distinct triples; ask for fewer"):
        generate_triples("test", 10_000)
