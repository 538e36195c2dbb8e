"""The body of a request for a chat completion, read and checked field by field."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.common.chats.messages import Conversation
from experiments.common.chats.model import Limits
from gdpo_jax.serving.fields import (
    NEUTRAL_CHAT,
    BadRequest,
    check_fields,
    read_length,
    read_messages,
    read_model,
    read_number,
    read_object,
    read_stop,
    read_stream,
    typed,
)

__all__ = ["ChatRequest", "read_request"]

# Fields of the protocol that this server has no use for, with the values that ask for nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **NEUTRAL_CHAT,
    "n": (1,),
    "top_p": (1,),
    "logprobs": (False,),
    "top_logprobs": (),
}
_OWN = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "stop",
    "seed",
    "user",
}
_LONGEST_USER = 256  # characters
_LARGEST_SEED = 2**31 - 1 - (1 << 21)  # sample numbers are added to it


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """What a client asks for."""

    model: str
    messages: Conversation
    limits: Limits
    user: str | None
    stream: bool
    usage: bool  # of a stream: does a last chunk tell the token counts?


def read_request(body: bytes, *, model: str, max_new_tokens: int) -> ChatRequest:
    """The request in a body of JSON.

    model: the one that is served. max_new_tokens: the most an answer may have, and what it gets
    where the client asks for no number. Raises `BadRequest` that names the field.
    """
    data = read_object(body)
    check_fields(data, _OWN, _NEUTRAL)
    name = read_model(data, model)
    stream, usage = read_stream(data)
    return ChatRequest(
        model=name,
        messages=read_messages(data),
        limits=_limits(data, max_new_tokens),
        user=_user(data),
        stream=stream,
        usage=usage,
    )


def _limits(data: Mapping[str, Any], most: int) -> Limits:
    length = read_length(data, ("max_completion_tokens", "max_tokens"), most)
    temperature = read_number(data, "temperature", 1.0, 0, 2)
    seed = typed(data, "seed", int)
    if seed is not None and not 0 <= seed <= _LARGEST_SEED:
        raise BadRequest(f"seed is {seed}; give 0 to {_LARGEST_SEED}", "seed")
    return Limits(
        max_new_tokens=length or most, temperature=temperature, stop=read_stop(data), seed=seed
    )


def _user(data: Mapping[str, Any]) -> str | None:
    user = typed(data, "user", str)
    if user is None:
        return None
    if not user.strip() or len(user) > _LONGEST_USER or not user.isprintable():
        raise BadRequest(f"user is a printable text of 1 to {_LONGEST_USER} characters", "user")
    return user
