"""What the store keeps of a user for an assistant: what they said to each other, and notes.

Both are written and read through the handle of that one user.
"""

import json
from collections.abc import Iterable, Sequence

from experiments.persona_leakage.data.notes import Note
from experiments.persona_leakage.data.users import Conversation, Exchange
from experiments.persona_leakage.store.conversations import UserStore
from experiments.persona_leakage.store.records import Message
from gdpo_jax.errors import UserError

__all__ = ["keep_conversations", "keep_notes", "kept_conversations", "kept_notes"]

_NOTES = "notes"  # the artefact's name
_TURNS = ("user", "assistant")


def keep_conversations(store: UserStore, conversations: Iterable[Conversation]) -> int:
    """Stores what was said in them, all or nothing; returns how many messages are new.

    Raises `UserError` for a conversation of somebody else, and as `UserStore.append`.
    """
    messages: list[Message] = []
    for conversation in conversations:
        if conversation.user != store.user:
            raise UserError(
                f"conversation {conversation.id!r} is of user {conversation.user!r}, and was to be "
                f"stored of user {store.user!r}"
            )
        messages += _messages(conversation)
    return store.append(messages)


def kept_conversations(store: UserStore) -> tuple[Conversation, ...]:
    """His conversations in the order of their first messages; neutral answers and topics are empty.

    Raises `UserError` for one whose messages are not a user's and an assistant's by turns, and as
    `UserStore.read`.
    """
    found: dict[str, list[Message]] = {}
    for message in store.read():
        found.setdefault(message.conversation, []).append(message)
    return tuple(_conversation(store, name, messages) for name, messages in found.items())


def keep_notes(store: UserStore, notes: Sequence[Note]) -> None:
    """Stores notes in the place of earlier ones. Raises `UserError` as `UserStore.put`."""
    rows = [[one.topic, one.text] for one in notes]
    store.put(_NOTES, json.dumps(rows, ensure_ascii=False, separators=(",", ":")))


def kept_notes(store: UserStore) -> tuple[Note, ...]:
    """The notes of this user; none of a user who is not there.

    Raises `UserError` for what is no list of notes, and as `UserStore.artefacts`.
    """
    text = store.artefacts().get(_NOTES, "[]")
    try:
        return tuple(Note(topic=topic, text=note) for topic, note in json.loads(text))
    except (TypeError, ValueError):
        raise UserError(
            f"{store.database.path}: what is stored as {_NOTES!r} of user {store.user!r} is no "
            "list of notes; restore the file from a copy"
        ) from None


def _messages(conversation: Conversation) -> list[Message]:
    turns = [
        turn
        for one in conversation.exchanges
        for turn in zip(_TURNS, (one.request, one.answer), strict=True)
    ]
    return [
        Message(
            id=f"{conversation.id}/{number}",
            conversation=conversation.id,
            role=role,
            content=content,
        )
        for number, (role, content) in enumerate(turns)
    ]


def _conversation(store: UserStore, name: str, messages: Sequence[Message]) -> Conversation:
    asked, answers = messages[::2], messages[1::2]
    if [one.role for one in messages] != list(_TURNS) * len(asked):
        raise UserError(
            f"{store.database.path}: conversation {name!r} of user {store.user!r} is no request "
            "and answer by turns; export the user, and leave him out"
        )
    exchanges = tuple(
        Exchange(request=one.content, answer=other.content, neutral="", topic="")
        for one, other in zip(asked, answers)
    )
    return Conversation(id=name, user=store.user, exchanges=exchanges)
