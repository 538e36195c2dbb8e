"""Small cases, and a model that is a function, for tests of dialogues and evaluations."""

import dataclasses
from collections.abc import Callable

from experiments.common.chats.model import Answer, failed
from experiments.curate.data.cases import Case
from gdpo_jax.errors import UserError


def case(row, scenario="sc1", *, turns=("I fear figs.", "Shall I eat figs?"), control=False):
    return Case(
        id=f"{scenario}/{row:04}",
        row=row,
        scenario=scenario,
        category="phobia" if row % 2 else "allergy",
        constraint="I have a fig allergy",
        turns=tuple(f"{turn} ({scenario}, {row})" for turn in turns),
        control=control,
    )


@dataclasses.dataclass
class Speaking:
    """Says `say(messages)`; a UserError is the failure of its conversation alone."""

    say: Callable = lambda messages: "No, because of your fig allergy."
    asked: list = dataclasses.field(default_factory=list)
    identity: dict = dataclasses.field(default_factory=lambda: {"model": "speaking"})

    def answer(self, conversations, limits, *, names=None, on_answer=None, on_failure=None):
        answers = []
        for n, messages in enumerate(conversations):
            self.asked.append([message["content"] for message in messages])
            said = self.say(messages)
            if isinstance(said, UserError):
                failed(UserError(f"{names[n]}: {said}"), n, on_failure)
                answers.append(None)
                continue
            answers.append(
                Answer(text=said, reason="stop", prompt_tokens=4, completion_tokens=2, cost=0.5)
            )
            if on_answer is not None:
                on_answer(n, answers[-1])
        return answers
