"""Dialogues held by the model of an arm, in the form that runs and stages ask for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

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

__all__ = ["Held", "OwnTurns", "reply_model"]


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
class OwnTurns(Optimize):
    """Reinforcement learning of last answers behind earlier ones that the start itself has given.

    The earlier answers are drawn once, greedily, before the first step; `Optimize` takes those that
    the examples give.
    """

    def train(self, job: Job) -> recipe.Model:
        return super().train(dataclasses.replace(job, examples=lambda name: _own(job, name)))


def _own(job: Job, name: str) -> list[dict[str, Any]]:
    """The examples, their prompts the dialogues up to the last question as the start holds them.

    A dialogue in which the start says nothing keeps the answers that were given.
    """
    records = job.examples(name)
    cases = [from_record(record) for record in records]
    before = [dataclasses.replace(c, turns=c.turns[:-1]) for c in cases if len(c.turns) > 1]
    sampler = recipe.sampler_config(
        job.model, max_new_tokens=job.preset.max_new_tokens, temperature=0.0
    )

    def reply(prompts: Sequence[Prompt]) -> list[str]:
        rows = [job.prompt({"prompt": prompt}) for prompt in prompts]
        return recipe.answer(
            job.model,
            rows,
            sampler=sampler,
            batch_size=job.preset.evaluation_batch,
            key=jax.random.key(job.seed),
        )

    dialogues, _ = hold(reply_model(reply), before, Plain(), Limits())
    own = {d.case.id: d.answers for d in dialogues if not d.failed}
    examples = []
    for record, case in zip(records, cases, strict=True):
        given = own.get(case.id, record["given"])
        examples.append({**record, "prompt": joined(case.turns, given)})
    return examples


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
