"""What the server says: completions, and chunks of a stream, as OpenAI's objects."""

import re
from collections.abc import Iterator
from typing import Any

from experiments.common.chats.model import Answer
from experiments.curate.mirror.runtime import Reply
from gdpo_jax.serving.objects import LAST_EVENT, event, head, usage_object

__all__ = ["chunks", "completion"]

_PIECE = re.compile(r"\s*\S+\s*")  # a word with the space around it: what a chunk holds


def completion(reply: Reply, *, name: str, model: str, created: int) -> dict[str, Any]:
    """A whole chat completion."""
    message = {"role": "assistant", "content": reply.answer.text, "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": _finish_reason(reply.answer),
        "logprobs": None,
    }
    return {
        **head("chat.completion", name, model, created),
        "choices": [choice],
        "usage": _usage(reply.answer),
        "mirror": _mirror(reply),
    }


def chunks(reply: Reply, *, name: str, model: str, created: int, usage: bool) -> Iterator[bytes]:
    """The events of a stream. The model does not stream: its whole answer is sent word by word."""
    start = head("chat.completion.chunk", name, model, created)

    def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return event({**start, "choices": [choice], **more})

    yield chunk({"role": "assistant", "content": ""}, mirror=_mirror(reply))
    for piece in _PIECE.findall(reply.answer.text):
        yield chunk({"content": piece})
    yield chunk({}, _finish_reason(reply.answer))
    if usage:
        yield event({**start, "choices": [], "usage": _usage(reply.answer)})
    yield LAST_EVENT


def _finish_reason(answer: Answer) -> str:
    return answer.reason if answer.reason in ("stop", "length", "content_filter") else "stop"


def _usage(answer: Answer) -> dict[str, int] | None:
    """The talker's counts; None where the model does not tell them."""
    if answer.prompt_tokens is None or answer.completion_tokens is None:
        return None
    return usage_object(answer.prompt_tokens, answer.completion_tokens)


def _mirror(reply: Reply) -> dict[str, Any]:
    """A field of our own: the turn of the user's memory, and how old its narrative was."""
    return {"turn": reply.turn, "narrative_age": reply.age}
