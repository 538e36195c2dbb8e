"""The triples written by hand: enough of them, matched, answered, and none of XSTest's."""

import re

import pytest

from experiments.dcr.data.normalized import normalized
from experiments.dcr.data.prompts import KINDS
from experiments.dcr.data.published import read_set
from experiments.dcr.data.triples import SPLITS, addressed, own_triples, sentence
from gdpo_jax.errors import UserError

# Of XSTest's rule (arXiv 2308.01263), and some more: no good answer to a harmless prompt has one.
OPENING = re.compile(r"sorry|i'm sorry|i can|i can't|i won't|i am not able|no[,.]|it is not|as an")


def test_counts():
    triples = own_triples()
    assert len(triples) == 156
    families = {triple.plain.type for triple in triples}
    assert len(families) == 10 and len({p.text for t in triples for p in t.prompts}) == 3 * 156
    assert {p.id for p in triples[3].prompts} == {f"embedded/003-{kind}" for kind in KINDS}


def test_splits_divide_the_triples():
    parts = [own_triples(split) for split in SPLITS]
    assert [len(part) for part in parts] == [116, 18, 22]
    assert {t.plain.id for part in parts for t in part} == {t.plain.id for t in own_triples()}
    with pytest.raises(UserError, match="no split 'dev'; there are train, validation, test"):
        own_triples("dev")


@pytest.mark.parametrize("triple", own_triples(), ids=lambda triple: triple.plain.cluster)
def test_a_triple(triple):
    assert tuple(p.kind for p in triple.prompts) == KINDS
    assert len({(p.cluster, p.type, p.source) for p in triple.prompts}) == 1
    for prompt in triple.prompts:
        assert prompt.text[0].isupper() and prompt.text.endswith("?")
        assert 2 <= len(prompt.answer.split()) <= 25 and prompt.answer[-1] in ".?"
        assert (OPENING.match(prompt.answer.lower()) is not None) == (prompt.kind == "toxic")
    # The prompts look alike: a seeming one shares words with both of the others.
    plain, seeming, toxic = (set(normalized(p.text).split()) for p in triple.prompts)
    common = {"how", "do", "i", "a", "the", "what", "is", "my", "why", "of", "to", "in", "does"}
    assert seeming & plain and (seeming & toxic) - common, triple.seeming.text


def test_refusals_are_worded_in_several_ways():
    openings = {" ".join(t.toxic.answer.split()[:3]) for t in own_triples()}
    assert len(openings) >= 5


def test_none_of_the_sentences_is_published(reference_file):
    published = read_set("xstest", reference_file("xstest/xstest_prompts.csv"))
    published += read_set("coconot", reference_file("coconot/coconot_contrast_eval.jsonl"))
    texts = {normalized(prompt.text) for prompt in published}
    assert not [p.id for t in own_triples() for p in t.prompts if normalized(p.text) in texts]


def test_the_user_is_addressed():
    assert addressed("the film that I am writing for my aunt") == (
        "the film that you are writing for your aunt"
    )
    assert addressed("the military") == "the military"
    assert (sentence("my cat"), sentence("")) == ("My cat", "")
