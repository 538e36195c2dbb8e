"""The fields of a request in OpenAI's protocol, read one by one; what is wrong is named."""

import json
from collections.abc import Collection, Mapping
from typing import Any

__all__ = [
    "NEUTRAL",
    "NEUTRAL_CHAT",
    "BadRequest",
    "check_fields",
    "read_length",
    "read_messages",
    "read_model",
    "read_number",
    "read_object",
    "read_stop",
    "read_stream",
    "typed",
]

Data = Mapping[str, Any]
# Fields that change no answer, and are taken with any value.
IGNORED = {"store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"}
# Fields of the protocol that no server here has a use for, with the values that ask for nothing; of
# all requests, and of those for a chat.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
}
NEUTRAL_CHAT: Mapping[str, tuple[Any, ...]] = {
    **NEUTRAL,
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


class BadRequest(Exception):
    """A request that is wrong; `field` is where, None for the whole body."""

    def __init__(
        self,
        message: str,
        field: str | None = None,
        *,
        status: int = 400,
        code: str | None = "invalid_value",
    ):
        super().__init__(message)
        self.field, self.status, self.code = field, status, code


def read_object(body: bytes) -> dict[str, Any]:
    """The fields that a body of JSON gives; the protocol lets null stand for one not given."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON", code="invalid_json") from None
    if not isinstance(data, dict):
        raise BadRequest("the body is not a JSON object", code="invalid_json")
    return {name: value for name, value in data.items() if value is not None}


def check_fields(data: Data, used: Collection[str], neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises `BadRequest` for a field that is neither used nor without effect.

    neutral: fields of the protocol that this server does not support, with the values that ask for
    nothing.
    """
    for name, value in data.items():
        if name in used or name in IGNORED:
            continue
        if name not in neutral:
            raise BadRequest(f"unknown field {name!r}", name, code="unknown_parameter")
        # 1 == True in Python, and not in JSON.
        if not any(value == other and _same_kind(value, other) for other in neutral[name]):
            message = f"this server does not support {name}; leave it out"
            raise BadRequest(message, name, code="unsupported_parameter")


def _same_kind(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool)


def read_model(data: Data, served: str) -> str:
    """The model of a request, which must be the one that is served."""
    if (name := typed(data, "model", str)) is None:
        raise BadRequest("give the model", "model", code="missing_required_parameter")
    if name != served:
        message = f"there is no model {name!r}; this server has {served!r}"
        raise BadRequest(message, "model", status=404, code="model_not_found")
    return name


def read_stream(data: Data) -> tuple[bool, bool]:
    """Whether the answer is streamed, and whether a last chunk tells the token counts."""
    options = typed(data, "stream_options", dict) or {}
    stream = typed(data, "stream", bool) or False
    if options and not stream:
        raise BadRequest("only a stream has options; set stream", "stream_options")
    unknown = sorted(options.keys() - {"include_usage", "include_obfuscation"})
    if unknown:
        field = f"stream_options.{unknown[0]}"
        raise BadRequest("unknown field", field, code="unknown_parameter")
    return stream, stream and options.get("include_usage") is True


def read_messages(data: Data) -> list[dict[str, str]]:
    """Messages of role and content, the last one the user's; a developer's are the system's."""
    messages = typed(data, "messages", list)
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
    if checked[-1]["role"] != "user":
        raise BadRequest(
            "the last message must be the user's", f"messages[{len(checked) - 1}].role"
        )
    return checked


def _content(value: Any, field: str) -> str:
    parts = value
    if isinstance(value, str):
        parts = [{"type": "text", "text": value}]
    if not isinstance(parts, list):
        raise BadRequest("the content is a text, or a list of parts that are texts", field)
    texts = []
    for n, part in enumerate(parts):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise BadRequest("this server reads texts alone", f"{field}[{n}].type")
        if not isinstance(part.get("text"), str):
            raise BadRequest("the part has no text", f"{field}[{n}].text")
        texts.append(part["text"])
    text = "\n".join(texts)
    if not text.strip() or not is_text(text):
        raise BadRequest("the content has no text", field)
    return text


def is_text(value: Any) -> bool:
    """Whether this is a text without halves of surrogate pairs, which JSON can hold."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def read_length(data: Data, names: tuple[str, ...], most: int) -> int | None:
    """How many tokens an answer may have, under any of these names; None where nobody says."""
    given = [name for name in names if name in data]
    for name in given:
        if not 1 <= typed(data, name, int) <= most:
            raise BadRequest(f"{name} is {data[name]}; give 1 to {most}", name)
    if len({data[name] for name in given}) > 1:
        raise BadRequest(f"{' and '.join(sorted(given, reverse=True))} differ; give one", given[-1])
    return data[given[0]] if given else None


def read_stop(data: Data) -> tuple[str, ...]:
    """Up to four texts before which an answer ends."""
    stop = data.get("stop", [])
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or len(stop) > 4 or not all(is_text(s) and s for s in stop):
        raise BadRequest("stop is a text, or a list of up to four", "stop")
    return tuple(stop)


def read_number(data: Data, field: str, default: float, least: float, most: float) -> float:
    """A number from `least` to `most`."""
    value = data.get(field, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRequest(f"{field} is not a number", field, code="invalid_type")
    if not least <= value <= most:
        raise BadRequest(f"{field} is {value}; give {least} to {most}", field)
    return value


def typed(data: Data, field: str, kind: type) -> Any:
    """The field, of this kind, or None where it is not given."""
    value = data.get(field)
    if value is None:
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {str: "a text", int: "a whole number", bool: "true or false"}
        wanted = names.get(kind, "a list" if kind is list else "an object")
        raise BadRequest(f"{field} is not {wanted}", field, code="invalid_type")
    return value
