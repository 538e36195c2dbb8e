"""What the server says: completions, chunks of a stream, and errors as OpenAI's objects."""

import json
import re
from collections.abc import Iterator
from typing import Any

from experiments.common.chats.model import Answer
from experiments.curate.mirror.runtime import Reply

__all__ = ["chunks", "completion", "error_object", "model_object"]

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
        **_head("chat.completion", name, model, created),
        "choices": [choice],
        "usage": _usage(reply.answer),
        "mirror": _mirror(reply),
    }


def chunks(reply: Reply, *, name: str, model: str, created: int, usage: bool) -> Iterator[bytes]:
    """The events of a stream. The model does not stream: its whole answer is sent word by word."""
    head = _head("chat.completion.chunk", name, model, created)

    def event(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return _event({**head, "choices": [choice], **more})

    yield event({"role": "assistant", "content": ""}, mirror=_mirror(reply))
    for piece in _PIECE.findall(reply.answer.text):
        yield event({"content": piece})
    yield event({}, _finish_reason(reply.answer))
    if usage:
        yield _event({**head, "choices": [], "usage": _usage(reply.answer)})
    yield b"data: [DONE]\n\n"


def error_object(message: str, *, kind: str, code: str | None, field: str | None) -> dict[str, Any]:
    """An error as clients of OpenAI's protocol read it."""
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}


def model_object(name: str, created: int) -> dict[str, Any]:
    """A model in the list of models."""
    return {"id": name, "object": "model", "created": created, "owned_by": "experiments.curate"}


def _head(kind: str, name: str, model: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": kind, "created": created, "model": model}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _finish_reason(answer: Answer) -> str:
    return answer.reason if answer.reason in ("stop", "length", "content_filter") else "stop"


def _usage(answer: Answer) -> dict[str, int] | None:
    """The talker's counts; None where the model does not tell them."""
    if answer.prompt_tokens is None or answer.completion_tokens is None:
        return None
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def _mirror(reply: Reply) -> dict[str, Any]:
    """A field of our own: the turn of the user's memory, and how old its narrative was."""
    return {"turn": reply.turn, "narrative_age": reply.age}
