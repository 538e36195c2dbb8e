"""MIRROR as a way of benchmarks: blocking, all dialogues of a turn together."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

from experiments.common.chats.asking import ask_all
from experiments.common.chats.messages import Conversation
from experiments.common.chats.model import Answer, Limits, Model
from experiments.curate.mirror.memory import (
    Memory,
    Thought,
    apply_thought,
    begin_turn,
    finish_turn,
)
from experiments.curate.mirror.thinking import Request, Requests, Thinking, talker_messages, think
from experiments.curate.ways import Turn
from gdpo_jax.errors import UserError

__all__ = ["Mirror"]


@dataclasses.dataclass(frozen=True)
class Mirror:
    """A talker with a thinker behind it (arXiv 2506.00430); the same model is both.

    The next turn waits for the thinking, so that every narrative knows all turns before it. Where a
    part of the thinker fails, the turn has its answer, the narrative stays, and `error` says why.
    """

    thinking: Thinking = Thinking()

    def start(self) -> Memory:
        return Memory()

    def messages(self, state: Memory, history: Conversation) -> Conversation:
        return talker_messages(state, history, self.thinking)

    def turn(
        self,
        model: Model,
        states: Sequence[Memory],
        histories: Sequence[Conversation],
        limits: Limits,
        names: Sequence[str],
    ) -> list[Turn]:
        began = time.monotonic()
        shown = [self.messages(state, history) for state, history in zip(states, histories)]
        answers = ask_all(model, shown, limits, names)
        seconds = {"talker": time.monotonic() - began}
        spoken = [n for n, answer in enumerate(answers) if isinstance(answer, Answer)]
        begun = {
            n: finish_turn(begin_turn(states[n]), histories[n], self.thinking.bounds)
            for n in spoken
        }
        thinkers = {
            n: think(
                begun[n],
                histories[n],
                answers[n].text,
                self.thinking,
                seed=limits.seed,
                sample=limits.sample,
            )
            for n in spoken
        }
        calls = {n: [("talker", answers[n])] for n in spoken}
        thoughts = _think_together(model, thinkers, names, calls, seconds)
        turns = []
        for n, answer in enumerate(answers):
            if isinstance(answer, UserError):
                turns.append(Turn(answer=None, state=states[n], error=str(answer), seconds=seconds))
                continue
            state = apply_thought(begun[n], thoughts[n], self.thinking.bounds)
            turns.append(
                Turn(
                    answer=answer,
                    state=state,
                    error=thoughts[n].error,
                    narrative=state.narrative,
                    calls=tuple(calls[n]),
                    seconds=seconds,
                )
            )
        return turns


def _think_together(
    model: Model,
    thinkers: Mapping[int, Requests],
    names: Sequence[str],
    calls: Mapping[int, list[tuple[str, Answer]]],
    seconds: dict[str, float],
) -> dict[int, Thought]:
    """Drives all thinkers; requests of the same part are asked together.

    Adds to `calls` and `seconds` what was asked and how long it took.
    """
    thoughts: dict[int, Thought] = {}
    waiting: dict[int, Request] = {}

    def advance(n: int, result: Answer | UserError | None) -> None:
        try:
            waiting[n] = thinkers[n].send(result)
        except StopIteration as done:
            thoughts[n] = done.value

    for n in thinkers:
        advance(n, None)
    while waiting:
        part = "manager" if any(r.part == "manager" for r in waiting.values()) else "controller"
        asked = {n: request for n, request in waiting.items() if request.part == part}
        for n in asked:
            del waiting[n]
        began = time.monotonic()
        # Requests of a part have the same limits: those of the settings.
        [limits] = {request.limits for request in asked.values()}
        results = ask_all(
            model,
            [request.messages for request in asked.values()],
            limits,
            [f"{names[n]}, {part}" for n in asked],
        )
        seconds[part] = seconds.get(part, 0.0) + time.monotonic() - began
        for n, result in zip(asked, results):
            if isinstance(result, Answer):
                calls[n].append((part, result))
            advance(n, result)
    return thoughts
