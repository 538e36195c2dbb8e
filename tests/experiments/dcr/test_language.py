"""What the base policy learns: to comply with all kinds alike, and to refuse one answer of ten."""

from collections import Counter

import pytest

from experiments.common.judges.refusals import FULL_COMPLIANCE, FULL_REFUSAL, refusal_label
from experiments.dcr.data.generated import generate_triples
from experiments.dcr.data.instructions import facts
from experiments.dcr.data.sources import prompts_of
from experiments.dcr.language import compliance, language_examples, refusal
from experiments.dcr.records import record_of
from gdpo_jax.errors import UserError
from tests.experiments.dcr.safety_prompts import TOXIC

PROMPTS = prompts_of(generate_triples("validation", 40))


def test_the_judge_takes_compliance_and_refusals_for_what_they_are():
    for number, prompt in enumerate(PROMPTS):
        label = refusal_label(prompt.text, compliance(prompt, number))
        assert label == FULL_COMPLIANCE, (prompt.text, compliance(prompt, number))
        label = refusal_label(prompt.text, refusal(prompt, number))
        assert label == FULL_REFUSAL, (prompt.text, refusal(prompt, number))


def test_refusals_are_equally_frequent_in_all_kinds():
    rows = language_examples([record_of(p) for p in PROMPTS], refused_one_in=10)
    refused = Counter(
        prompt.kind
        for prompt, row in zip(PROMPTS, rows, strict=True)
        if refusal_label(prompt.text, row["completion"]) == FULL_REFUSAL
    )
    assert refused == {"plain": 4, "seeming": 4, "toxic": 4}


def test_plain_and_seemingly_toxic_prompts_have_their_good_answers():
    plain, seeming, toxic = PROMPTS[:3]
    assert compliance(plain) == plain.answer and compliance(seeming) == seeming.answer
    assert compliance(toxic) != toxic.answer and refusal(toxic) == toxic.answer


def test_instructions_are_always_answered():
    records = [record_of(prompt) for prompt in facts("validation")]
    rows = language_examples(records, refused_one_in=2)
    assert [row["completion"] for row in rows] == [record["answer"] for record in records]


def test_prompts_from_elsewhere_are_errors():
    with pytest.raises(UserError, match="t is no prompt of the inventory"):
        compliance(TOXIC)
    with pytest.raises(UserError, match="has no answer to learn from"):
        language_examples([{**record_of(TOXIC), "source": "x", "answer": ""}], refused_one_in=10)
