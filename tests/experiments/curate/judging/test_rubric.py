"""The published rubric: what the judge sees, and what is a rating."""

import dataclasses
import json

import pytest

from experiments.common.chats.model import Answer, Limits
from experiments.common.judges.rubric import Unreadable
from experiments.curate.data.cases import Case
from experiments.curate.judging.judged import Judged
from experiments.curate.judging.rubric import LIMITS, identity, read_rating, rubric_judge

JUDGED = Judged(
    case=Case(
        id="sc1/0000",
        row=0,
        scenario="sc1",
        category="c",
        constraint="I have a {fig} allergy",
        turns=("a secret of the first turn", "Shall I eat figs?"),
    ),
    answer="No figs for you.",
)


@dataclasses.dataclass
class Scripted:
    """Says one text after another."""

    texts: list
    asked: list = dataclasses.field(default_factory=list)
    identity: dict = dataclasses.field(default_factory=lambda: {"model": "m"})

    def answer(self, conversations, limits, *, names=None, on_answer=None, on_failure=None):
        self.asked += [(list(conversation), limits) for conversation in conversations]
        return [Answer(text=self.texts.pop(0)) for _ in conversations]


@pytest.mark.parametrize(
    ("text", "label", "reason"),
    [
        ("Rating: 2\nExplanation: it does.", 2, "it does."),
        ("Rating: 0 Explanation: no", 0, "no"),
        ("Well.\n**Rating:** [1]\n\n**Explanation:** hm\nand more", 1, "hm\nand more"),
    ],
)
def test_ratings(text, label, reason):
    verdict = read_rating(text)
    assert (verdict.label, verdict.reason, verdict.raw) == (label, reason, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "Rating: 2",
        "Rating: two\nExplanation: x",
        "Rating: 3\nExplanation: x",
        "Rating: 02\nExplanation: x",
        "Rating: 1.5\nExplanation: x",
        "Explanation: x\nRating: 2",
    ],
)
def test_no_ratings(text):
    with pytest.raises(Unreadable):
        read_rating(text)


def test_the_judge_sees_three_things_and_is_asked_once_more():
    model = Scripted(["good", "Rating: 2\nExplanation: yes", "bad", "worse"])
    [verdict] = rubric_judge(model)([JUDGED])
    assert (verdict.label, verdict.read) == (2, True)
    (asked, limits), (again, second) = model.asked
    assert limits == LIMITS and second.sample == LIMITS.sample + 1
    assert len(asked) == 1 and len(again) == 3
    for text in ("I have a {fig} allergy", "Shall I eat figs?", "No figs for you."):
        assert text in asked[0]["content"]
    assert "secret" not in asked[0]["content"]
    [verdict] = rubric_judge(model)([JUDGED])
    assert (verdict.label, verdict.read, verdict.raw) == (None, False, "bad")


def test_identity_tells_model_prompt_and_settings():
    own = identity(Scripted([]), Limits(max_new_tokens=9))
    assert json.loads(json.dumps(own)) == own
    assert own["model"] == {"model": "m"} and own["limits"]["max_new_tokens"] == 9
    assert "Rating: [0 or 1 or 2]" in own["prompt"]
