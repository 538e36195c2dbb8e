"""What is kept of a user for an assistant: conversations and notes come back to him alone."""

import contextlib
import json

import pytest

from experiments.persona_leakage.data.notes import Note
from experiments.persona_leakage.data.users import Conversation, Exchange
from experiments.persona_leakage.store.conversations import Message, open_store
from experiments.persona_leakage.store.memory import (
    keep_conversations,
    keep_notes,
    kept_conversations,
    kept_notes,
)
from gdpo_jax.errors import UserError


def conversation(user, number, *said):
    exchanges = tuple(
        Exchange(request=one, answer=f"{one}, {user}!", neutral="", topic="") for one in said
    )
    return Conversation(id=f"{user}-{number}", user=user, exchanges=exchanges)


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(open_store(tmp_path)) as store:
        yield store


def test_what_is_kept_comes_back_to_its_user_alone(store):
    ann, bob = store.user("ann"), store.user("bob")
    told = [conversation("ann", 0, "Tea", "Milk"), conversation("ann", 1, "Sugar")]
    assert keep_conversations(ann, told) == 6 and keep_conversations(ann, told[:1]) == 0
    notes = (Note(topic="dog", text="dog: Rex."), Note(topic="", text="call me Ann."))
    keep_notes(ann, notes)
    assert kept_conversations(ann) == tuple(told) and kept_notes(ann) == notes
    assert kept_conversations(bob) == () and kept_notes(bob) == () and not bob.exists()
    keep_notes(ann, notes[1:])
    assert kept_notes(ann) == notes[1:]
    assert ann.delete().artefacts == 1 and kept_notes(ann) == ()


def test_what_is_not_his_or_no_conversation_is_named(store):
    ann = store.user("ann")
    with pytest.raises(UserError, match="'bob-0' is of user 'bob', and was to be stored of user"):
        keep_conversations(ann, [conversation("bob", 0, "Tea")])
    assert not ann.exists()
    ann.append([Message(id="1", conversation="c", role="user", content="Tea?")])
    with pytest.raises(UserError, match="conversation 'c' of user 'ann' is no request and answer"):
        kept_conversations(ann)
    for text in ("[", json.dumps([["dog"]]), "3"):
        ann.put("notes", text)
        with pytest.raises(UserError, match="'notes' of user 'ann' is no list of notes"):
            kept_notes(ann)
