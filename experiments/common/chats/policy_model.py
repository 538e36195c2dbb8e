"""A policy of gdpo_jax as a model to talk with."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from experiments.common.chats.messages import Conversation, check_conversation
from experiments.common.chats.model import (
    Answer,
    Limits,
    Model,
    OnAnswer,
    OnFailure,
    conversation_names,
    failed,
)
from gdpo_jax import models
from gdpo_jax.answers import complete, longest_prompt, sampler_config
from gdpo_jax.errors import UserError
from gdpo_jax.prompts import encode_prompt
from gdpo_jax.rollouts import Completion
from gdpo_jax.rollouts.engine import padded_size
from gdpo_jax.training import TrainState

__all__ = ["policy_model"]

_BUCKET = 64  # tokens; prompts are padded to 1, 2, 3, 4, 6, ... times this


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
    `answer` raises `UserError` as `gdpo_jax.recipe.answer`. What fails by name, alone where
    `on_failure` takes it, is a conversation that the template refuses or that leaves no positions
    for an answer.
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
        on_failure: OnFailure | None = None,
    ) -> list[Answer | None]:
        names = conversation_names(conversations, names)
        sampler = sampler_config(
            self.policy,
            max_new_tokens=limits.max_new_tokens,
            temperature=limits.temperature,
            # A halving compiles the loop once more, for every width that a talk comes to.
            **{"halvings": 0, **self.sampling},
        )
        most = longest_prompt(self.policy, sampler)
        prompts: dict[int, list[int]] = {}
        for n, (conversation, name) in enumerate(zip(conversations, names)):
            try:
                prompts[n] = self._prompt(conversation, name, most)
            except UserError as error:
                failed(error, n, on_failure)
        drawn = complete(
            self.policy,
            list(prompts.values()),
            state=self.state,
            sampler=sampler,
            batch_size=self.batch_size,
            prompt_buckets=_widths(prompts.values(), most),
            key=jax.random.fold_in(jax.random.key(limits.seed or 0), limits.sample),
        )
        answers = {
            n: self._answer(own, prompt, limits) for own, (n, prompt) in zip(drawn, prompts.items())
        }
        for n, given in answers.items():
            if on_answer is not None:
                on_answer(n, given)
        return [answers.get(n) for n in range(len(names))]

    def _prompt(self, conversation: Conversation, name: str, most: int) -> list[int]:
        messages = check_conversation(conversation, name)
        try:
            prompt = encode_prompt(self.policy.tokenizer, messages)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        if len(prompt) > most:
            raise UserError(
                f"{name}: the prompt has {len(prompt)} tokens, and the model has positions for "
                f"{most} before an answer; lower max_new_tokens, or shorten it"
            )
        return prompt

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


def _widths(prompts: Iterable[Sequence[int]], most: int) -> list[int]:
    """Widths that hold the prompts, of few: a talk grows with every turn, and each would compile
    its own program."""
    return sorted({min(padded_size(len(prompt), _BUCKET), most) for prompt in prompts})
