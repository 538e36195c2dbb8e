"""What every server of OpenAI's protocol says: models, errors, and the events of a stream."""

import json
from typing import Any

__all__ = ["error_object", "event", "head", "model_list", "model_object", "usage_object"]

LAST_EVENT = b"data: [DONE]\n\n"


def error_object(message: str, *, kind: str, code: str | None, field: str | None) -> dict[str, Any]:
    """An error as clients of OpenAI's protocol read it."""
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}


def model_object(name: str, created: int, owner: str) -> dict[str, Any]:
    """A model in the list of models."""
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def model_list(model: dict[str, Any]) -> dict[str, Any]:
    """The list of the one model that a server has."""
    return {"object": "list", "data": [model]}


def head(kind: str, name: str, model: str, created: int) -> dict[str, Any]:
    """What an answer, and each chunk of it, begins with."""
    return {"id": name, "object": kind, "created": created, "model": model}


def usage_object(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Counts of tokens."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def event(value: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"
