"""How MIRROR thinks about a turn (arXiv 2506.00430, section 3): pure, one request at a time.

`talker_messages` is what the talker is shown. `think` is a generator: it yields requests, takes
what came of each, and returns a `Thought`. Whoever drives it decides how models are called: for all
dialogues of a benchmark together, or in the background of a server.
"""

import dataclasses
import json
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Literal, TypeAlias

from experiments.common.chats.messages import Conversation, Message
from experiments.common.chats.model import Answer, Limits
from experiments.curate.mirror.history import Shown, bounded, split_history
from experiments.curate.mirror.memory import Bounds, Memory, Monologue, Thought
from experiments.curate.mirror.prompts import AGAIN, FACTS, Prompts
from gdpo_jax.errors import UserError

__all__ = ["Request", "Requests", "Thinking", "parse_monologue", "talker_messages", "think"]

_THREADS = ("goal", "reasoning", "memory")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thinking:
    """How MIRROR thinks.

    parts: the manager's entry alone is the narrative; the controller alone reads the conversation
    itself; with both, the controller sees the manager's threads and not the conversation.
    """

    parts: Literal["both", "manager", "controller"] = "both"
    temperature: float = 0.7  # of the thinker; the talker's is the caller's
    bounds: Bounds = Bounds()
    prompts: Prompts = Prompts()

    def __post_init__(self):
        if self.parts not in ("both", "manager", "controller"):
            raise UserError(f"parts {self.parts!r}; give both, manager or controller")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"temperature={self.temperature}; give 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a part of the thinker asks a model."""

    part: str
    messages: Conversation
    limits: Limits


Requests: TypeAlias = Generator[Request, Answer | UserError, Thought]


def talker_messages(memory: Memory, history: Conversation, thinking: Thinking) -> list[Message]:
    """What the talker is shown: the conversation as far as it fits, and the narrative.

    The narrative, and what the user said about himself in turns that are left out, stand in a
    system message behind the conversation's own. Without both, a conversation that fits is shown
    as it is.
    """
    shown = _fitting(memory, history, thinking.bounds)
    notes = [_listed(shown.facts)] if shown.facts else []
    if memory.narrative:
        notes.append(f"{thinking.prompts.narrative}\n\n{memory.narrative}")
    note = [{"role": "system", "content": "\n\n".join(notes)}] if notes else []
    return [*shown.system, *note, *shown.messages]


def think(
    memory: Memory,
    history: Conversation,
    reply: str,
    thinking: Thinking,
    *,
    seed: int | None = None,
    sample: int = 0,
) -> Requests:
    """Thinks about the turn `memory.turn`, after the reply.

    history: ends in the user's turn. What a request fails with is in the thought, never raised.
    """
    bounds, about = thinking.bounds, {"session": memory.session, "turn": memory.turn}
    whole = [*history, {"role": "assistant", "content": reply}]
    drawn = {"temperature": thinking.temperature, "seed": seed, "sample": sample}
    entry = None
    if thinking.parts != "controller":
        limits = Limits(max_new_tokens=bounds.monologue, **drawn)
        entry = yield from _ask_manager(_manager_messages(memory, whole, thinking), limits)
        if isinstance(entry, str):
            return Thought(**about, error=f"manager: {entry}")
    if thinking.parts == "manager":
        return Thought(**about, monologue=entry, narrative=_threads(entry))
    if entry is None:
        prompt, seen = (
            thinking.prompts.plain_controller,
            _transcript(_fitting(memory, whole, bounds)),
        )
    else:
        prompt, seen = thinking.prompts.controller, _threads(entry)
    earlier = memory.narrative or "(there is none yet)"
    # A token is about three quarters of a word.
    system = prompt.format(words=max(1, min(400, bounds.narrative * 3 // 4)))
    answer = yield Request(
        part="controller",
        messages=_asking(system, f"{seen}\n\n=== Earlier narrative ===\n{earlier}"),
        limits=Limits(max_new_tokens=bounds.narrative, **drawn),
    )
    if isinstance(answer, UserError):
        return Thought(**about, monologue=entry, error=f"controller: {answer}")
    if not answer.text.strip():
        return Thought(**about, monologue=entry, error="controller: the answer is empty")
    return Thought(**about, monologue=entry, narrative=_encodable(answer.text).strip())


def parse_monologue(text: str) -> Monologue:
    """The entry that a manager wrote: one JSON object, which may stand in a fence of Markdown.

    Raises ValueError that says what is wrong, and takes nothing from a text that is not whole.
    """
    try:
        value = json.loads(_without_fence(text.strip()))
    except (ValueError, RecursionError):
        raise ValueError("it is not a JSON object") from None
    if not isinstance(value, Mapping):
        raise ValueError("it is not a JSON object")
    for name in _THREADS:
        if name not in value:
            raise ValueError(f"the field {name!r} is missing")
        if not isinstance(value[name], str) or not value[name].strip():
            raise ValueError(f"the field {name!r} is not a text")
    return Monologue(**{name: " ".join(_encodable(value[name]).split()) for name in _THREADS})


def _ask_manager(
    messages: Conversation, limits: Limits
) -> Generator[Request, Answer | UserError, Monologue | str]:
    """The entry, or why there is none: what cannot be read is asked for once more."""
    problem = ""
    for _ in range(2):
        answer = yield Request(part="manager", messages=messages, limits=limits)
        if isinstance(answer, UserError):
            return str(answer)
        try:
            return parse_monologue(answer.text)
        except ValueError as error:
            problem = f"{error}, twice" if problem else str(error)
            said = _encodable(answer.text).strip() or "(nothing)"
            complaint = AGAIN.format(problem=problem)
            messages = [
                *messages,
                {"role": "assistant", "content": said},
                {"role": "user", "content": complaint},
            ]
    return problem


def _manager_messages(memory: Memory, whole: Conversation, thinking: Thinking) -> list[Message]:
    parts = [_transcript(_fitting(memory, whole, thinking.bounds))]
    if memory.monologues:
        past = "\n".join(json.dumps(vars(entry)) for entry in memory.monologues)
        parts.insert(0, f"=== My earlier entries, oldest first ===\n{past}")
    return _asking(thinking.prompts.manager, "\n\n".join(parts))


def _fitting(memory: Memory, history: Conversation, bounds: Bounds) -> Shown:
    return bounded(history, memory.facts, tokens=bounds.conversation, facts_tokens=bounds.facts)


def _transcript(shown: Shown) -> str:
    """A conversation as text, its latest exchange apart."""
    *_, latest = split_history(shown.messages)[1]
    before = shown.messages[: len(shown.messages) - len(latest)]
    parts = [_listed(shown.facts)] if shown.facts else []
    if shown.system or before:
        parts.append("=== The conversation before ===\n" + _lines((*shown.system, *before)))
    parts.append("=== The latest exchange ===\n" + _lines(latest))
    return "\n\n".join(parts)


def _lines(messages: Sequence[Message]) -> str:
    return "\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in messages)


def _listed(facts: Sequence[str]) -> str:
    return "\n".join([FACTS, *(f"- {fact}" for fact in facts)])


def _threads(entry: Monologue) -> str:
    return "\n\n".join(
        f"=== {name.capitalize()} thread ===\n{text}" for name, text in vars(entry).items()
    )


def _asking(system: str, user: str) -> list[Message]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _without_fence(text: str) -> str:
    first, _, rest = text.partition("\n")
    if first.strip() in ("```", "```json") and rest.rstrip().endswith("```"):
        return rest.rstrip()[:-3]
    return text


def _encodable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON may hold and no model takes."""
    return text.encode("utf-8", "replace").decode()
