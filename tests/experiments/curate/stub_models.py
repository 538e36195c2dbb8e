"""Models for tests of `experiments.curate`: functions from messages to texts."""

import dataclasses
import json
import threading
from collections.abc import Callable

from experiments.common.chats.model import Answer
from experiments.curate.mirror.prompts import MANAGER
from gdpo_jax.errors import UserError


def part_of(messages):
    """Which part of MIRROR asks: its system prompt tells."""
    first = messages[0]["content"] if messages[0]["role"] == "system" else ""
    if first == MANAGER:
        return "manager"
    return (
        "controller"
        if "write my narrative" in first or "write the narrative" in first
        else "talker"
    )


def entry(goal="to eat", reasoning="nuts harm him", memory="allergic to nuts"):
    """What a manager should say."""
    return json.dumps({"goal": goal, "reasoning": reasoning, "memory": memory})


def said_by(talker="hello", manager=None, controller="he must not eat nuts"):
    """A function of messages for `Stub`; each argument a text, an error, or a function."""
    parts = {"talker": talker, "manager": entry() if manager is None else manager}
    parts["controller"] = controller

    def say(messages):
        reply = parts[part_of(messages)]
        return reply(messages) if callable(reply) else reply

    return say


@dataclasses.dataclass
class Stub:
    """Answers in order of the list; a `UserError` is said in place of an answer."""

    say: Callable = dataclasses.field(default_factory=said_by)
    asked: list = dataclasses.field(default_factory=list)  # (part, messages, limits)
    batches: list = dataclasses.field(default_factory=list)  # (part, size) of each call
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    identity = {"stub": 1}  # noqa: RUF012

    def answer(self, conversations, limits, *, names=None, on_answer=None, on_failure=None):
        names = names or [f"conversation {n}" for n in range(len(conversations))]
        with self.lock:
            self.batches.append((part_of(conversations[0]), len(conversations)))
        answers = []
        for n, messages in enumerate(conversations):
            with self.lock:
                self.asked.append((part_of(messages), list(messages), limits))
            text = self.say(messages)
            if isinstance(text, UserError):
                error = UserError(f"endpoint nowhere, {names[n]}: {text}")
                if on_failure is None:
                    raise error
                answers.append(None)
                on_failure(n, error)
                continue
            if isinstance(text, Exception):
                raise text
            answer = Answer(
                text=text, reason="stop", prompt_tokens=7, completion_tokens=3, cost=0.5
            )
            answers.append(answer)
            if on_answer is not None:
                on_answer(n, answer)
        return answers

    def parts(self):
        """Which parts asked, in order."""
        return [part for part, _, _ in self.asked]


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}
