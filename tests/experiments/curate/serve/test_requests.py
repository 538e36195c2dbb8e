"""Bodies of requests: what is taken, and what is refused by the name of its field."""

import json

import pytest

pytest.importorskip("starlette", reason="no starlette; install the extra serve")

from experiments.curate.serve.requests import read_request
from gdpo_jax.serving.fields import BadRequest

HELLO = [{"role": "user", "content": "Hello?"}]


def read(**fields):
    body = {"model": "m", "messages": HELLO, **fields}
    return read_request(json.dumps(body).encode(), model="m", max_new_tokens=100)


def test_what_a_client_may_ask_for():
    asked = read()
    assert (asked.messages, asked.user, asked.stream, asked.usage) == (HELLO, None, False, False)
    assert (asked.limits.max_new_tokens, asked.limits.temperature) == (100, 1.0)
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo?"}]
    asked = read(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "a", "name": "Ann"},
            {"role": "assistant", "content": "b", "refusal": None, "tool_calls": []},
            {"role": "user", "content": parts},
        ],
        user="ann",
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=7,
        max_completion_tokens=7,
        temperature=0,
        stop="end",
        seed=3,
        n=1,
        top_p=1.0,
        tools=None,
        metadata={"a": "b"},
    )
    assert [m["role"] for m in asked.messages] == ["system", "user", "assistant", "user"]
    assert asked.messages[1] == {"role": "user", "content": "a"}
    assert asked.messages[3]["content"] == "Hel\nlo?"
    assert (asked.user, asked.stream, asked.usage) == ("ann", True, True)
    limits = asked.limits
    assert (limits.max_new_tokens, limits.temperature, limits.seed) == (7, 0, 3)
    assert limits.stop == ("end",)


@pytest.mark.parametrize(
    ("fields", "field", "status"),
    [
        ({"model": None}, "model", 400),
        ({"model": 3}, "model", 400),
        ({"model": "other"}, "model", 404),
        ({"messages": None}, "messages", 400),
        ({"messages": []}, "messages", 400),
        ({"messages": "hello"}, "messages", 400),
        ({"messages": ["hello"]}, "messages[0]", 400),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", 400),
        ({"messages": [{"role": "user"}]}, "messages[0].content", 400),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content", 400),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content", 400),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            400,
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            400,
        ),
        (
            {"messages": [{"role": "user", "content": "a", "tool_calls": [{}]}]},
            "messages[0].tool_calls",
            400,
        ),
        ({"messages": [*HELLO, {"role": "assistant", "content": "a"}]}, "messages[1].role", 400),
        ({"max_tokens": 0}, "max_tokens", 400),
        ({"max_tokens": 101}, "max_tokens", 400),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens", 400),
        ({"max_tokens": True}, "max_tokens", 400),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", 400),
        ({"temperature": "hot"}, "temperature", 400),
        ({"temperature": 2.1}, "temperature", 400),
        ({"temperature": float("nan")}, "temperature", 400),
        ({"stop": [""]}, "stop", 400),
        ({"stop": ["a"] * 5}, "stop", 400),
        ({"seed": -1}, "seed", 400),
        ({"seed": 2**63}, "seed", 400),
        ({"user": ""}, "user", 400),
        ({"user": "a\nb"}, "user", 400),
        ({"user": "\ud800"}, "user", 400),
        ({"user": "a" * 257}, "user", 400),
        ({"stream": "yes"}, "stream", 400),
        ({"stream_options": {"include_usage": True}}, "stream_options", 400),
        ({"stream": True, "stream_options": {"a": 1}}, "stream_options.a", 400),
        ({"n": 2}, "n", 400),
        ({"n": True}, "n", 400),
        ({"top_p": 0.5}, "top_p", 400),
        ({"logprobs": True}, "logprobs", 400),
        ({"tools": [{"type": "function"}]}, "tools", 400),
        ({"response_format": {"type": "json_object"}}, "response_format", 400),
        ({"temprature": 1}, "temprature", 400),
    ],
)
def test_what_is_wrong_is_named(fields, field, status):
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert (caught.value.field, caught.value.status) == (field, status)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'"a"'])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(BadRequest, match="JSON"):
        read_request(body, model="m", max_new_tokens=1)
