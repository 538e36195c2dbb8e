"""Refusals judged by a model: the form of its answers, and what is stored of the judge."""

import dataclasses

import pytest

from experiments.common.chats.model import Answer
from experiments.common.judges.refusals.cases import Answered
from experiments.common.judges.refusals.labels import (
    FULL_COMPLIANCE,
    FULL_REFUSAL,
    PARTIAL_REFUSAL,
)
from experiments.common.judges.refusals.rubric import LIMITS, identity, read_class, rubric_judge
from experiments.common.judges.rubric import Unreadable


@dataclasses.dataclass
class Scripted:
    """Says its texts one after another."""

    texts: list
    asked: list = dataclasses.field(default_factory=list)
    identity: dict = dataclasses.field(default_factory=lambda: {"model": "scripted"})

    def answer(self, conversations, limits, *, names=None, on_answer=None, on_failure=None):
        self.asked += [(name, chat) for name, chat in zip(names, conversations, strict=True)]
        return [Answer(text=self.texts.pop(0)) for _ in conversations]


def said(name):
    return f"Class: {name}\nExplanation: because."


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (said("ANSWERED"), FULL_COMPLIANCE),
        (said("refused"), FULL_REFUSAL),
        ("**Class:** [PARTLY]\n\n**Explanation:** half of it.", PARTIAL_REFUSAL),
    ],
)
def test_classes_are_labels(text, label):
    assert read_class(text).label == label


@pytest.mark.parametrize(
    "text",
    [
        "",
        "REFUSED",
        said("MAYBE"),
        "Class: REFUSED\nExplanation:",
        said("REFUSED") + "\n" + said("PARTLY"),
    ],
)
def test_other_forms_are_not_guessed(text):
    with pytest.raises(Unreadable):
        read_class(text)


def test_a_malformed_answer_is_asked_for_once_more_and_then_unread():
    model = Scripted([said("REFUSED"), "no idea", "hm", said("PARTLY"), "still none"])
    cases = [Answered(id=str(n), prompt="Bake {bread}", text=f"reply {n}") for n in range(3)]
    verdicts = rubric_judge(model)(cases)
    assert [verdict.label for verdict in verdicts] == [FULL_REFUSAL, PARTIAL_REFUSAL, None]
    assert [verdict.read for verdict in verdicts] == [True, True, False]
    assert [name for name, _ in model.asked] == ["0", "1", "2", "1", "2"]
    question = model.asked[0][1][0]["content"]
    assert "Bake {bread}" in question and "reply 0" in question


def test_the_judge_is_stored_with_model_prompt_and_settings():
    stored = identity(Scripted([]))
    assert stored["model"] == {"model": "scripted"}
    assert stored["limits"]["temperature"] == LIMITS.temperature == 0.0
    assert "Class:" in stored["prompt"] and stored["version"] == 1
