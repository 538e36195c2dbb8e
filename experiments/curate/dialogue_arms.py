"""Dialogues held by the model of an arm, in the form that runs and stages ask for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.chats.messages import Conversation
from experiments.common.chats.model import (
    Answer,
    Limits,
    Model,
    OnAnswer,
    OnFailure,
    conversation_names,
)
from experiments.common.runs.arms import Reply
from experiments.common.runs.stages import Job, Optimize
from experiments.curate.data.cases import from_record
from experiments.curate.data.examples import joined
from experiments.curate.dialogues import hold
from experiments.curate.ways import Plain, Way
from gdpo_jax import recipe
from gdpo_jax.prompts import Prompt

__all__ = ["Held", "LastAnswers", "own_turns", "reply_model"]


@dataclasses.dataclass(frozen=True)
class Held:
    """The dialogue of a record is held turn by turn, earlier answers being the arm's own."""

    way: Way = Plain()

    def answer(self, reply: Reply, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """The answers to the last turns; nothing is said where a dialogue came to no last turn."""
        cases = [from_record(record) for record in records]
        # The reply has limits of its own: those of the preset.
        dialogues, _ = hold(reply_model(reply), cases, self.way, Limits())
        return ["" if d.failed else d.answers[-1] for d in dialogues]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LastAnswers(Optimize):
    """Reinforcement learning of the last answers of dialogues.

    The earlier answers are those that the examples give or, with the preset's `own_turns`, those
    that the start itself gives, greedily and once, before the first step.
    """

    def train(self, job: Job) -> recipe.Model:
        preset, model = job.preset, job.model
        if not preset.own_turns:
            return super().train(job)
        greedy = {"max_new_tokens": preset.max_new_tokens, "temperature": 0.0}

        def reply(prompts: Sequence[Prompt]) -> list[str]:
            return recipe.answer(
                model,
                [job.prompt({"prompt": prompt}) for prompt in prompts],
                sampler=recipe.sampler_config(model, **greedy),
                batch_size=preset.evaluation_batch,
            )

        examples = own_turns(job.examples(self.examples), reply)
        return super().train(dataclasses.replace(job, examples=lambda name: examples))


def own_turns(records: Sequence[Mapping[str, Any]], reply: Reply) -> list[dict[str, Any]]:
    """The records, their prompts the dialogues up to the last question as the model holds them.

    A dialogue in which the model says nothing keeps the answers that were given.
    """
    cases = [from_record(record) for record in records]
    before = [dataclasses.replace(c, turns=c.turns[:-1]) for c in cases if len(c.turns) > 1]
    dialogues, _ = hold(reply_model(reply), before, Plain(), Limits())
    own = {d.case.id: d.answers for d in dialogues if not d.failed}
    return [
        {**record, "prompt": joined(case.turns, own.get(case.id, record["given"]))}
        for record, case in zip(records, cases, strict=True)
    ]


def reply_model(reply: Reply) -> Model:
    """A model of chats whose answers are replies, under the reply's own limits."""
    return _ReplyModel(reply)


@dataclasses.dataclass(frozen=True)
class _ReplyModel:
    reply: Reply

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"reply": "of an arm"}

    def answer(
        self,
        conversations: Sequence[Conversation],
        limits: Limits,
        *,
        names: Sequence[str] | None = None,
        on_answer: OnAnswer | None = None,
        on_failure: OnFailure | None = None,
    ) -> list[Answer | None]:
        del limits, on_failure  # the reply has limits, and no reply fails
        conversation_names(conversations, names)
        given = [Answer(text=text) for text in self.reply(conversations)]
        for n, answer in enumerate(given):
            if on_answer is not None:
                on_answer(n, answer)
        return given
