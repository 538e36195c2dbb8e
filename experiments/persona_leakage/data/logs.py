"""Logs of conversations as JSON Lines: one conversation a row.

    {"id": "c-1", "user": "u-7", "turns": [{"role": "user", "content": "..."},
                                          {"role": "assistant", "content": "..."}, ...]}

`id` is the conversation's own, `user` says who talked, and turns are the user's and the assistant's
by turns, the user's first and the assistant's last. There are no other fields.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.common.chats.messages import check_conversation
from experiments.common.files.json_rows import read_rows, shown, write_rows
from experiments.persona_leakage.data.users import Conversation, Exchange
from gdpo_jax.errors import UserError

__all__ = ["read_logs", "write_logs"]

_FIELDS = ("id", "user", "turns")
_ROLES = ("user", "assistant")


def read_logs(path: Path) -> tuple[Conversation, ...]:
    """The conversations of a log; their neutral answers and topics are empty.

    Raises UserError that names file, row (from 1) and field, and says what is expected: for
    another field, one that is missing or empty, turns out of order, and an id that comes twice.
    """
    rows: dict[str, int] = {}
    found = []
    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}, row {number}"
        conversation = _conversation(row, where)
        if conversation.id in rows:
            raise UserError(
                f"{where}, field 'id': {shown(conversation.id)} stands in row "
                f"{rows[conversation.id]} already; give each conversation an id of its own"
            )
        rows[conversation.id] = number
        found.append(conversation)
    return tuple(found)


def write_logs(path: Path, conversations: Iterable[Conversation]) -> None:
    """Writes a log, the whole file or none. Raises UserError where it cannot be written."""
    write_rows(path, (_row(conversation) for conversation in conversations))


def _row(conversation: Conversation) -> dict[str, Any]:
    turns = [
        {"role": role, "content": content}
        for one in conversation.exchanges
        for role, content in zip(_ROLES, (one.request, one.answer), strict=True)
    ]
    return {"id": conversation.id, "user": conversation.user, "turns": turns}


def _conversation(row: Mapping[str, Any], where: str) -> Conversation:
    for name in row:
        if name not in _FIELDS:
            raise UserError(f"{where}: unknown field {shown(name)}; there are {', '.join(_FIELDS)}")
    for name in _FIELDS:
        if name not in row:
            raise UserError(f"{where}: no field {name!r}; a row has {', '.join(_FIELDS)}")
    for name in ("id", "user"):
        if not isinstance(row[name], str) or not row[name].strip():
            raise UserError(f"{where}, field {name!r}: expected text, found {shown(row[name])}")
    turns = check_conversation(row["turns"], f"{where}, field 'turns'")
    for number, turn in enumerate(turns):
        expected = _ROLES[number % 2]
        if turn["role"] != expected:
            raise UserError(
                f"{where}, field 'turns', message {number}, field 'role': {turn['role']!r}; "
                f"expected {expected!r}"
            )
    if len(turns) % 2:
        raise UserError(f"{where}, field 'turns': the last message must be the assistant's")
    texts = [turn["content"] for turn in turns]
    exchanges = tuple(
        Exchange(request=asked, answer=answer, neutral="", topic="")
        for asked, answer in zip(texts[::2], texts[1::2], strict=True)
    )
    return Conversation(id=row["id"], user=row["user"], exchanges=exchanges)
