"""Conversations are checked by message and field."""

import pytest

from experiments.common.chats.messages import check_conversation
from gdpo_jax.errors import UserError


def turns(*roles):
    return [{"role": role, "content": f"text {n}"} for n, role in enumerate(roles)]


def test_conversations():
    for messages in (turns("user"), turns("system", "user", "assistant", "user")):
        assert check_conversation(tuple(messages), alternating=True) == messages
    assert check_conversation(turns("assistant", "assistant"))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (None, "expected a list of messages, found None"),
        ([], r"expected a list of messages, found \[\]"),
        ("hello", "expected a list of messages"),
        (["hello"], "message 0: expected 'role' and 'content', found 'hello'"),
        ([*turns("user"), {"role": "judge", "content": "x"}], "message 1, field 'role': 'judge'"),
        ([{"role": ["user"], "content": "x"}], "message 0, field 'role'"),
        ([{"content": "x"}], "message 0, field 'role': None; give one of system, user, assistant"),
        ([{"role": "user"}], "message 0, field 'content': expected text, found None"),
        ([{"role": "user", "content": " "}], "message 0, field 'content'"),
        ([{"role": "user", "content": ["x"]}], "message 0, field 'content'"),
        ([{"role": "user", "content": "\ud83d"}], "field 'content': half of a surrogate pair"),
        ([{"role": "user", "content": "x", "name": "y"}], "message 0: unknown field 'name'"),
    ],
)
def test_what_is_none(messages, message):
    with pytest.raises(UserError, match=f"record 'a'.*{message}"):
        check_conversation(messages, "record 'a'")


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (["assistant"], "message 0, field 'role': 'assistant'; expected 'user'"),
        (["user", "user"], "message 1, field 'role': 'user'; expected 'assistant'"),
        (["user", "system"], "message 1, field 'role': 'system'; expected 'assistant'"),
        (["user", "assistant"], "message 1, .*the last message must be the user's"),
        (["system"], "message 0, .*the last message must be the user's"),
    ],
)
def test_turns(roles, message):
    with pytest.raises(UserError, match=message):
        check_conversation(turns(*roles), alternating=True)
