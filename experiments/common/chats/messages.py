"""Conversations: lists of {"role", "content"}, checked once before they are paid for."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.files.json_rows import shown
from gdpo_jax.errors import UserError

__all__ = ["ROLES", "Conversation", "Message", "check_conversation"]

Message = Mapping[str, str]
Conversation = Sequence[Message]

ROLES = ("system", "user", "assistant")


def check_conversation(
    messages: Any, name: str = "conversation", *, alternating: bool = False
) -> list[dict[str, str]]:
    """The messages as plain dictionaries of role and content.

    alternating: after leading system messages, user and assistant take turns and the user has the
    last word, as most chat templates ask for.

    Raises `UserError` that names conversation, message (from 0) and field.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)) or not messages:
        raise UserError(f"{name}: expected a list of messages, found {shown(messages)}")
    checked = [_message(message, f"{name}, message {n}") for n, message in enumerate(messages)]
    if alternating:
        _check_turns([message["role"] for message in checked], name)
    return checked


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise UserError(f"{where}: expected 'role' and 'content', found {shown(message)}")
    extra = message.keys() - {"role", "content"}
    if extra:
        raise UserError(f"{where}: unknown field {sorted(map(str, extra))[0]!r}")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise UserError(f"{where}, field 'role': {shown(role)}; give one of {', '.join(ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise UserError(f"{where}, field 'content': expected text, found {shown(content)}")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{where}, field 'content': half of a surrogate pair, which is no text; read the file "
            "it comes from as UTF-8"
        ) from None
    return {"role": role, "content": content}


def _check_turns(roles: Sequence[str], name: str) -> None:
    first = next((n for n, role in enumerate(roles) if role != "system"), len(roles))
    for n, role in enumerate(roles[first:], start=first):
        expected = ("user", "assistant")[(n - first) % 2]
        if role != expected:
            raise UserError(f"{name}, message {n}, field 'role': {role!r}; expected {expected!r}")
    if roles[-1] != "user":
        raise UserError(
            f"{name}, message {len(roles) - 1}, field 'role': {roles[-1]!r}; the last message must "
            "be the user's"
        )
