"""A language model as the judge: a question about each case, and a reader of the answers."""

from collections.abc import Callable, Sequence
from typing import Any

from experiments.common.chats.messages import Conversation
from experiments.common.chats.model import Answer, Limits, Model
from experiments.common.files.json_rows import shown
from experiments.common.judges.verdict import Judge, Verdict, unread

__all__ = ["Unreadable", "rubric_judge"]

_AGAIN = "That could not be read. Answer again, in exactly the form that was asked for."


class Unreadable(ValueError):
    """Raised by a reader: why an answer is no verdict."""


def rubric_judge(
    model: Model,
    *,
    question: Callable[[Any], Conversation],
    read: Callable[[str], Verdict],
    limits: Limits,
    case_name: Callable[[Any], str] = shown,
    on_answers: Callable[[Sequence[Answer]], None] | None = None,
) -> Judge:
    """The judge that puts `question(case)` to the model and reads a verdict out of the answer.

    read: gives the verdict of a text, or raises `Unreadable`; it must not guess. An answer that
    cannot be read is asked for once more, with the answer and a request to keep to the form behind
    the question; after that the verdict is unread, with the first reason. All cases are asked at
    once, as the model's concurrency allows. on_answers: gets all answers, for a bill.

    Raises `UserError` as the model does, by the name of the case.
    """

    def judge(cases: Sequence[Any]) -> list[Verdict]:
        questions = [question(case) for case in cases]
        names = [case_name(case) for case in cases]
        answers = _ask(questions, names, limits)
        verdicts = [_read(answer, read) for answer in answers]
        failed = [n for n, verdict in enumerate(verdicts) if not verdict.read]
        second = _ask(
            [_again(questions[n], answers[n]) for n in failed],
            [names[n] for n in failed],
            # Another draw also where the conversation is the same.
            Limits(**{**vars(limits), "sample": limits.sample + 1}),
        )
        for n, answer in zip(failed, second, strict=True):
            retried = _read(answer, read)
            if retried.read:
                verdicts[n] = retried
        return verdicts

    def _ask(
        questions: Sequence[Conversation], names: Sequence[str], limits: Limits
    ) -> Sequence[Answer]:
        answers = model.answer(questions, limits, names=names) if questions else []
        if on_answers is not None:
            on_answers(answers)
        return answers

    return judge


def _read(answer: Answer, read: Callable[[str], Verdict]) -> Verdict:
    try:
        return read(answer.text)
    except Unreadable as error:
        return unread(str(error), answer.text)


def _again(question: Conversation, answer: Answer) -> Conversation:
    if not answer.text.strip():
        return question
    said = {"role": "assistant", "content": answer.text}
    return [*question, said, {"role": "user", "content": _AGAIN}]
