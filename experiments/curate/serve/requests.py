"""The body of a request for a chat completion, read and checked field by field."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from experiments.common.chats.messages import Conversation, check_conversation
from experiments.common.chats.model import Limits
from gdpo_jax.errors import UserError

__all__ = ["BadRequest", "ChatRequest", "read_request"]

# Fields of the protocol that this server has no use for, with the values that ask for nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
}
# Fields that change no answer, and are taken with any value.
_IGNORED = {"store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"}
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


class BadRequest(Exception):
    """A request that is wrong; `field` is where, None for the whole body."""

    def __init__(
        self,
        message: str,
        field: str | None = None,
        *,
        status: int = 400,
        code: str = "invalid_value",
    ):
        super().__init__(message)
        self.field, self.status, self.code = field, status, code


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
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON", code="invalid_json") from None
    if not isinstance(data, dict):
        raise BadRequest("the body is not a JSON object", code="invalid_json")
    # The protocol lets null stand for a field that is not given.
    data = {name: value for name, value in data.items() if value is not None}
    _check_fields(data)
    if (name := _typed(data, "model", str)) is None:
        raise BadRequest("give the model", "model", code="missing_required_parameter")
    if name != model:
        message = f"there is no model {name!r}; this server has {model!r}"
        raise BadRequest(message, "model", status=404, code="model_not_found")
    options = _typed(data, "stream_options", dict) or {}
    stream = _typed(data, "stream", bool) or False
    if options and not stream:
        raise BadRequest("only a stream has options; set stream", "stream_options")
    unknown = sorted(options.keys() - {"include_usage", "include_obfuscation"})
    if unknown:
        field = f"stream_options.{unknown[0]}"
        raise BadRequest("unknown field", field, code="unknown_parameter")
    return ChatRequest(
        model=model,
        messages=_messages(data),
        limits=_limits(data, max_new_tokens),
        user=_user(data),
        stream=stream,
        usage=stream and options.get("include_usage") is True,
    )


def _check_fields(data: Mapping[str, Any]) -> None:
    for name, value in data.items():
        if name in _OWN or name in _IGNORED:
            continue
        if name not in _NEUTRAL:
            raise BadRequest(f"unknown field {name!r}", name, code="unknown_parameter")
        # 1 == True in Python, and not in JSON.
        if not any(value == neutral and _same_kind(value, neutral) for neutral in _NEUTRAL[name]):
            message = f"this server does not support {name}; leave it out"
            raise BadRequest(message, name, code="unsupported_parameter")


def _same_kind(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool)


def _messages(data: Mapping[str, Any]) -> Conversation:
    messages = _typed(data, "messages", list)
    if not messages:
        raise BadRequest("give at least one message", "messages", code="missing_required_parameter")
    checked = []
    for n, message in enumerate(messages):
        field = f"messages[{n}]"
        if not isinstance(message, dict):
            raise BadRequest("a message is an object with role and content", field)
        role = message.get("role")
        if role not in ("system", "developer", "user", "assistant"):
            expected = "give system, developer, user or assistant"
            raise BadRequest(f"the role is {role!r}; {expected}", f"{field}.role")
        given = {name for name, value in message.items() if value not in (None, [], "")}
        if unknown := sorted(given - {"role", "content", "name", "refusal", "annotations"}):
            raise BadRequest(
                f"this server does not support {unknown[0]}",
                f"{field}.{unknown[0]}",
                code="unsupported_parameter",
            )
        text = _content(message.get("content"), f"{field}.content")
        checked.append({"role": "system" if role == "developer" else role, "content": text})
        try:
            check_conversation(checked[-1:], field)
        except UserError:
            raise BadRequest("the content has no text", f"{field}.content") from None
    if checked[-1]["role"] != "user":
        raise BadRequest(
            "the last message must be the user's", f"messages[{len(checked) - 1}].role"
        )
    return checked


def _content(value: Any, field: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise BadRequest("the content is a text, or a list of parts that are texts", field)
    texts = []
    for n, part in enumerate(value):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise BadRequest("this server reads texts alone", f"{field}[{n}].type")
        if not isinstance(part.get("text"), str):
            raise BadRequest("the part has no text", f"{field}[{n}].text")
        texts.append(part["text"])
    return "\n".join(texts)


def _limits(data: Mapping[str, Any], most: int) -> Limits:
    lengths = [name for name in ("max_completion_tokens", "max_tokens") if name in data]
    length = most
    for name in lengths:
        length = _typed(data, name, int)
        if not 1 <= length <= most:
            raise BadRequest(f"{name} is {length}; give 1 to {most}", name)
    if len(lengths) == 2 and data[lengths[0]] != data[lengths[1]]:
        raise BadRequest("max_tokens and max_completion_tokens differ; give one", "max_tokens")
    temperature = _number(data, "temperature", 1.0)
    if not 0 <= temperature <= 2:
        raise BadRequest(f"temperature is {temperature}; give 0 to 2", "temperature")
    stop = data.get("stop", [])
    stop = [stop] if isinstance(stop, str) else stop
    if (
        not isinstance(stop, list)
        or len(stop) > 4
        or not all(isinstance(text, str) and text for text in stop)
    ):
        raise BadRequest("stop is a text, or a list of up to four", "stop")
    seed = _typed(data, "seed", int)
    if seed is not None and not 0 <= seed <= _LARGEST_SEED:
        raise BadRequest(f"seed is {seed}; give 0 to {_LARGEST_SEED}", "seed")
    return Limits(max_new_tokens=length, temperature=temperature, stop=tuple(stop), seed=seed)


def _user(data: Mapping[str, Any]) -> str | None:
    user = _typed(data, "user", str)
    if user is None:
        return None
    if not user.strip() or len(user) > _LONGEST_USER or not user.isprintable():
        raise BadRequest(f"user is a printable text of 1 to {_LONGEST_USER} characters", "user")
    return user


def _number(data: Mapping[str, Any], field: str, default: float) -> float:
    value = data.get(field, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRequest(f"{field} is not a number", field, code="invalid_type")
    return value


def _typed(data: Mapping[str, Any], field: str, kind: type) -> Any:
    value = data.get(field)
    if value is None:
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {str: "a text", int: "a whole number", bool: "true or false"}
        wanted = names.get(kind, "a list" if kind is list else "an object")
        raise BadRequest(f"{field} is not {wanted}", field, code="invalid_type")
    return value
