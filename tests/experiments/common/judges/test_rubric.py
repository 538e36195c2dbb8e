"""A model as the judge: its questions, a second try, and what stays unread."""

import dataclasses

import pytest

from experiments.common.chats.model import Answer, Limits
from experiments.common.judges.rubric import Unreadable, rubric_judge
from experiments.common.judges.verdict import Verdict, unread
from gdpo_jax.errors import UserError


@dataclasses.dataclass
class Scripted:
    """Says what `texts` hold for a case, one after another."""

    texts: dict
    calls: list = dataclasses.field(default_factory=list)
    identity: dict = dataclasses.field(default_factory=dict)

    def answer(self, conversations, limits, *, names=None, on_answer=None, on_failure=None):
        self.calls.append((list(names), limits.sample, [list(c) for c in conversations]))
        return [Answer(text=self.texts[name].pop(0)) for name in names]


def read(text):
    if text not in ("0", "1", "2"):
        raise Unreadable(f"{text!r} is no rating")
    return Verdict(int(text), raw=text)


def judge_of(model, **options):
    return rubric_judge(
        model,
        question=lambda case: [{"role": "user", "content": f"rate {case}"}],
        read=read,
        limits=Limits(max_new_tokens=5, sample=3),
        case_name=lambda case: f"case {case}",
        **options,
    )


def test_an_unreadable_answer_is_asked_for_once_more():
    model = Scripted(
        {"case a": ["2"], "case b": ["pass", "0"], "case c": ["pass", "fail"], "case d": ["", "1"]}
    )
    bills = []
    verdicts = judge_of(model, on_answers=bills.append)("abcd")
    assert verdicts == [
        Verdict(2, raw="2"),
        Verdict(0, raw="0"),
        unread("'pass' is no rating", "pass"),
        Verdict(1, raw="1"),
    ]
    (names, sample, _), (again, second, questions) = model.calls
    assert (names, sample) == (["case a", "case b", "case c", "case d"], 3)
    assert (again, second) == (["case b", "case c", "case d"], 4)
    asked, said, reminder = questions[0]
    assert asked == {"role": "user", "content": "rate b"}
    assert said == {"role": "assistant", "content": "pass"}
    assert reminder["role"] == "user" and "could not be read" in reminder["content"]
    assert questions[2] == [{"role": "user", "content": "rate d"}]
    assert list(map(len, bills)) == [4, 3]
    assert judge_of(model)([]) == []


def test_other_errors_of_a_reader_are_not_hidden():
    def broken(text):
        return {}[text]

    judge = rubric_judge(
        Scripted({"x": ["2"]}),
        question=lambda case: [{"role": "user", "content": case}],
        read=broken,
        limits=Limits(),
        case_name=str,
    )
    with pytest.raises(KeyError):
        judge(["x"])


def test_a_model_that_fails_is_not_a_verdict():
    class Failing(Scripted):
        def answer(self, conversations, limits, *, names=None, on_answer=None, on_failure=None):
            raise UserError(f"{names[0]}: status 500")

    with pytest.raises(UserError, match="case a: status 500"):
        judge_of(Failing({}))("a")


def test_failures_that_are_taken_leave_the_other_cases_alone():
    class Refusing(Scripted):
        def answer(self, conversations, limits, *, names=None, on_answer=None, on_failure=None):
            self.calls.append(list(names))
            answers = []
            for n, name in enumerate(names):
                answers.append(Answer(text=self.texts[name].pop(0)) if self.texts[name] else None)
                if answers[-1] is None:
                    on_failure(n, UserError(f"{name}: status 500"))
            return answers

    model = Refusing({"case a": [], "case b": ["x"], "case c": ["2"], "case d": ["x", "0"]})
    failures, bills = {}, []
    judge = judge_of(
        model, on_answers=bills.append, on_failure=lambda n, e: failures.update({n: str(e)})
    )
    assert judge("abcd") == [
        unread("case a: status 500"),
        unread("case b: status 500"),
        Verdict(2, raw="2"),
        Verdict(0, raw="0"),
    ]
    assert failures == {0: "case a: status 500", 1: "case b: status 500"}
    assert list(map(len, bills)) == [3, 1]
