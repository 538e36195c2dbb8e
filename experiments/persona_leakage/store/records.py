"""What is stored of a user, and the boxes it is stored in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from experiments.common.chats.messages import ROLES
from experiments.common.files.json_rows import check_text, shown
from experiments.persona_leakage.store.keys import NotOpened, Sealer, Vault, digest
from experiments.persona_leakage.store.keys import open_box as _open
from experiments.persona_leakage.store.keys import seal as _seal
from gdpo_jax.errors import UserError

__all__ = [
    "Message",
    "check_message",
    "check_user",
    "close_artefact",
    "close_message",
    "message_id",
    "open_artefact",
    "open_message",
    "user_id",
]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation; `id` tells it from the user's other messages."""

    id: str
    conversation: str
    role: str
    content: str


def check_user(user: str) -> None:
    """Raises `UserError` for what names no user."""
    if not isinstance(user, str) or not user.strip():
        raise UserError(f"user {shown(user)}: expected a text that is not empty")
    check_text(user)


def check_message(message: Message, where: str) -> None:
    """Raises `UserError` that names the message and the field."""
    for name in ("id", "conversation"):
        value = getattr(message, name)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}, field {name!r}: expected text, found {shown(value)}")
    if message.role not in ROLES:
        raise UserError(
            f"{where}, field 'role': {shown(message.role)}; give one of {', '.join(ROLES)}"
        )
    if not isinstance(message.content, str):
        raise UserError(f"{where}, field 'content': expected text, found {shown(message.content)}")
    try:
        check_text([message.id, message.conversation, message.content])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def user_id(vault: Vault, user: str) -> bytes:
    """What stands for a user in the file, and names his folder."""
    return digest(vault, "user", user)


def message_id(vault: Vault, user: str, message: str) -> bytes:
    """What stands for a message of a user in the file."""
    return digest(vault, "message", user, message)


def close_message(sealer: Sealer, user: str, position: int, message: Message) -> bytes:
    """The message as it is stored: encrypted about its user and its position in his history."""
    values = [message.id, message.conversation, message.role, message.content]
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return _seal(sealer, text.encode(), "message", user, position)


def open_message(
    vault: Vault, sealer: Sealer, user: str, position: int, row: tuple[bytes, bytes]
) -> Message:
    """The message in a row (id, body). Raises `NotOpened` unless it was stored at this place."""
    stored, body = row
    values = _values(_open(sealer, body, "message", user, position), 4)
    message = Message(**dict(zip(("id", "conversation", "role", "content"), values)))
    if message_id(vault, user, message.id) != stored:
        raise NotOpened
    return message


def close_artefact(
    vault: Vault, sealer: Sealer, user: str, name: str, text: str
) -> Mapping[str, bytes]:
    """A named text about a user as it is stored: `id` and `body`."""
    data = json.dumps([name, text], ensure_ascii=False, separators=(",", ":")).encode()
    key = digest(vault, "artefact", user, name)
    return {"id": key, "body": _seal(sealer, data, "artefact", user, key.hex())}


def open_artefact(
    vault: Vault, sealer: Sealer, user: str, row: tuple[bytes, bytes]
) -> tuple[str, str]:
    """Name and text in a row (id, body). Raises `NotOpened`."""
    stored, body = row
    name, text = _values(_open(sealer, body, "artefact", user, stored.hex()), 2)
    if digest(vault, "artefact", user, name) != stored:
        raise NotOpened
    return name, text


def _values(data: bytes, count: int) -> list[str]:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise NotOpened from None
    if not isinstance(values, list) or [type(value) for value in values] != [str] * count:
        raise NotOpened
    return values
