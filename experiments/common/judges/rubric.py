"""A language model as the judge: a question about each case, and a reader of the answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.common.chats.messages import Conversation
from experiments.common.chats.model import Answer, Limits, Model, OnFailure
from experiments.common.files.json_rows import shown
from experiments.common.judges.verdict import Judge, Verdict, unread
from gdpo_jax.errors import UserError

__all__ = ["Unreadable", "rubric_identity", "rubric_judge"]

_AGAIN = "That could not be read. Answer again, in exactly the form that was asked for."


class Unreadable(ValueError):
    """Raised by a reader: why an answer is no verdict."""


def rubric_identity(
    name: str, *, version: int, prompt: str, model: Model, limits: Limits
) -> Mapping[str, Any]:
    """What distinguishes a rubric's verdicts from another judge's, as JSON values to store."""
    return {
        "judge": name,
        "version": version,
        "prompt": prompt,
        "model": dict(model.identity),
        "limits": {**vars(limits), "stop": list(limits.stop)},
    }


def rubric_judge(
    model: Model,
    *,
    question: Callable[[Any], Conversation],
    read: Callable[[str], Verdict],
    limits: Limits,
    case_name: Callable[[Any], str] = shown,
    on_answers: Callable[[Sequence[Answer]], None] | None = None,
    on_failure: OnFailure | None = None,
) -> Judge:
    """The judge that puts `question(case)` to the model and reads a verdict out of the answer.

    read: gives the verdict of a text, or raises `Unreadable`; it must not guess. An answer that
    cannot be read is asked for once more, with the answer and a request to keep to the form behind
    the question; after that the verdict is unread, with the first reason. All cases are asked at
    once, as the model's concurrency allows. on_answers: gets all answers, for a bill. on_failure:
    gets position and error of a case to which the model gave no answer, the first time or the
    second; its verdict is unread, and the others are judged.

    Raises `UserError` as the model does, by the name of the case.
    """

    def judge(cases: Sequence[Any]) -> list[Verdict]:
        questions = [question(case) for case in cases]
        names = [case_name(case) for case in cases]
        failures: dict[int, UserError] = {}
        every = range(len(cases))
        answers = ask(questions, names, limits, every, failures)
        verdicts = {n: _read(answer, read) for n, answer in answers.items()}
        again = [n for n, verdict in verdicts.items() if not verdict.read]
        second = ask(
            [_again(questions[n], answers[n]) for n in again],
            [names[n] for n in again],
            # Another draw also where the conversation is the same.
            Limits(**{**vars(limits), "sample": limits.sample + 1}),
            again,
            failures,
        )
        for n, answer in second.items():
            retried = _read(answer, read)
            if retried.read:
                verdicts[n] = retried
        for n, error in failures.items():
            verdicts[n] = unread(str(error))
        return [verdicts[n] for n in every]

    def ask(
        questions: Sequence[Conversation],
        names: Sequence[str],
        limits: Limits,
        places: Sequence[int],
        failures: dict[int, UserError],
    ) -> dict[int, Answer]:
        """The answers by place among the cases; what failed goes into `failures`."""
        if not questions:
            return {}

        def fail(position: int, error: UserError) -> None:
            failures[places[position]] = error
            on_failure(places[position], error)

        taken = None if on_failure is None else fail
        answers = model.answer(questions, limits, names=names, on_failure=taken)
        found = {n: answer for n, answer in zip(places, answers, strict=True) if answer is not None}
        if on_answers is not None:
            on_answers(list(found.values()))
        return found

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
