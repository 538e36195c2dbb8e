"""A policy of gdpo_jax as a model to talk with."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from experiments.common.chats.messages import Conversation, check_conversation
from experiments.common.chats.model import Answer, Limits, Model, OnAnswer, conversation_names
from gdpo_jax import models
from gdpo_jax.answers import complete, sampler_config
from gdpo_jax.errors import UserError
from gdpo_jax.prompts import encode_prompt
from gdpo_jax.rollouts import Completion
from gdpo_jax.training import TrainState

__all__ = ["policy_model"]


def policy_model(
    policy: models.Model,
    *,
    name: str,
    state: TrainState | None = None,
    batch_size: int = 32,
    sampling: Mapping[str, Any] | None = None,
) -> Model:
    """The model that answers with a policy, through its tokenizer's chat template.

    name: stands for the parameters in a cache, so give another one whenever they differ. state:
    answers with its parameters. sampling: further fields of `SamplerConfig`, such as
    {"top_p": 0.9}.

    Stop texts are cut off after sampling, and the tokens behind them are counted. `reason` is
    "stop" where the model or such a text ended the answer, "length" where it ran out of tokens. At
    a temperature above 0 what is drawn depends on seed, sample number and the place in the list.
    `answer` raises `UserError` as `gdpo_jax.recipe.answer`, and for a conversation that the
    template refuses, by name.
    """
    return _Policy(policy, name, state, batch_size, dict(sampling or {}))


@dataclasses.dataclass(frozen=True)
class _Policy:
    policy: models.Model
    name: str
    state: TrainState | None
    batch_size: int
    sampling: Mapping[str, Any]

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"policy": self.name, "sampling": dict(self.sampling)}

    def answer(
        self,
        conversations: Sequence[Conversation],
        limits: Limits,
        *,
        names: Sequence[str] | None = None,
        on_answer: OnAnswer | None = None,
    ) -> list[Answer]:
        names = conversation_names(conversations, names)
        prompts = [self._prompt(c, name) for c, name in zip(conversations, names)]
        sampler = sampler_config(
            self.policy,
            max_new_tokens=limits.max_new_tokens,
            temperature=limits.temperature,
            **self.sampling,
        )
        drawn = complete(
            self.policy,
            prompts,
            state=self.state,
            sampler=sampler,
            batch_size=self.batch_size,
            key=jax.random.fold_in(jax.random.key(limits.seed or 0), limits.sample),
        )
        answers = [self._answer(own, prompt, limits) for own, prompt in zip(drawn, prompts)]
        for n, given in enumerate(answers):
            if on_answer is not None:
                on_answer(n, given)
        return answers

    def _prompt(self, conversation: Conversation, name: str) -> list[int]:
        messages = check_conversation(conversation, name)
        try:
            return encode_prompt(self.policy.tokenizer, messages)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None

    def _answer(self, drawn: Completion, prompt: Sequence[int], limits: Limits) -> Answer:
        text = drawn.text
        cut = min((at for stop in limits.stop if (at := text.find(stop)) >= 0), default=None)
        return Answer(
            text=text[:cut],
            reason="stop" if drawn.finished or cut is not None else "length",
            prompt_tokens=len(prompt),
            completion_tokens=len(drawn.token_ids),
            cost=0.0,
        )
