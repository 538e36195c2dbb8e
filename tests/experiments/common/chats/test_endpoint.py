"""A model behind an endpoint: what is sent, what comes back, and servers that misbehave."""

import asyncio
import json
import logging
import re
import sys
import time
import traceback

import pytest

from experiments.common.chats.endpoint import Prices, endpoint_model
from experiments.common.chats.model import Limits, bill_of
from gdpo_jax.errors import UserError
from tests.experiments.chat_server import Reply, chat, echo, running_server

KEY = "sk-SECRET-0123456789"
LIMITS = Limits()
USER = [{"role": "user", "content": "hello"}]


def ask(
    server, texts=("hello",), *, limits=LIMITS, url=None, names=None, on_failure=None, **options
):
    options = {"model": "m", "api_key": KEY, "timeout": 5.0, "retries": 1, **options}
    model = endpoint_model(url or server.url, **options)
    conversations = [[{"role": "user", "content": t}] for t in texts]
    return model.answer(conversations, limits, names=names, on_failure=on_failure)


def refusal(server, *texts, **options):
    """The one message of a call that fails; nothing that is raised holds the key."""
    with pytest.raises(UserError) as raised:
        ask(server, *texts, **options)
    error = raised.value
    assert error.__cause__ is None and error.__context__ is None
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    own = [frame for frame in frames if "/tests/" not in frame.filename]
    assert own
    for secret in (KEY, KEY[4:14], "passw0rd"):
        assert secret not in str(error)
        assert all(secret not in str(frame.locals) + str(frame.line) for frame in own)
    return str(error)


def test_a_request_and_its_answer(chat_server):
    limits = Limits(max_new_tokens=9, temperature=0.5, stop=("\n",), seed=4, sample=2)
    [answer] = ask(
        chat_server,
        limits=limits,
        prices=Prices(2.0, 10.0),
        fields={"top_p": 0.9},
        api_key=f" {KEY}\n",
    )
    assert chat_server.paths == ["/v1/chat/completions"]
    assert chat_server.bodies == [
        {
            "model": "m",
            "messages": USER,
            "temperature": 0.5,
            "max_tokens": 9,
            "top_p": 0.9,
            "stop": ["\n"],
            "seed": 6,
        }
    ]
    assert chat_server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert (answer.text, answer.finished, answer.cached) == ("answer to hello", True, False)
    # 7 prompt tokens at 2 and 3 new ones at 10 for a million.
    assert answer.cost == pytest.approx(44e-6)
    bill = bill_of([answer, answer])
    assert (bill.asked, bill.prompt_tokens, bill.completion_tokens) == (2, 14, 6)
    assert bill.cost == pytest.approx(88e-6)


def test_answers_keep_their_order_and_few_requests_are_open(chat_server):
    texts = [str(n) for n in range(12)]
    chat_server.reply = lambda body: chat(
        body["messages"][0]["content"], wait=0.05 if body["messages"][0]["content"] < "3" else 0.02
    )
    answers = ask(chat_server, texts, concurrency=3)
    assert [answer.text for answer in answers] == texts
    assert chat_server.most == 3
    assert ask(chat_server, []) == []


def test_inside_a_running_event_loop(chat_server):
    async def main():
        return ask(chat_server)

    assert asyncio.run(main())[0].text == "answer to hello"


def test_nothing_of_the_environment_is_sent(chat_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    ask(chat_server, api_key=None)
    sent = chat_server.headers[0]
    assert "Authorization" not in sent
    assert KEY not in str(sent) and "org-of-mine" not in str(sent)


@pytest.mark.parametrize(
    "bad",
    [
        Reply(b"", 429, {"Retry-After": "0.01"}),
        Reply(b"", 500),
        Reply(b"<html>", 503, {"Content-Type": "text/html"}),
        chat("whole", cut=30),
        chat("whole", cut=0),
        Reply(b"<html>busy</html>", 200, {"Content-Type": "text/html"}),
        Reply(b'{"choices": [{"mess'),
        Reply(b""),
        Reply(b'{"choices": []}'),
        Reply(b'{"choices": [{"message": {}}]}'),
        Reply(b'{"choices": [{"message": {"content": 3}}]}'),
        Reply(b'{"error": "busy"}'),
        Reply(b"[" * 100_000),
        Reply(b"\xff\xfe"),
        Reply(b"null"),
        chat("late", wait=0.5),
        chat("x" * 60, drip=0.05),
    ],
    ids=lambda reply: repr(reply)[:60],
)
def test_one_bad_answer_is_asked_for_again(chat_server, bad):
    chat_server.replies = [bad]
    [answer] = ask(chat_server, timeout=0.3)
    assert answer.text == "answer to hello"
    assert len(chat_server.bodies) == 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Reply(b'{"error": {"message": "out of\\ntokens"}}', 429), "status 429: out of tokens"),
        (Reply(b"", 429, {"Retry-After": "3600"}), "status 429, Retry-After 3600 s"),
        (Reply(b"oh", 500), "status 500, after up to 2 requests"),
        (Reply(b"", 401), "status 401: the key is missing, wrong or without rights"),
        (Reply(b'{"error": {"message": "no model m"}}', 404), "status 404: no model m"),
        (chat("whole", cut=30), "no whole answer"),
        (Reply(b'{"choices": [{"mess'), "no chat completion .*not JSON, or cut"),
        (Reply(b" <html>"), "no chat completion .*a web page.*often in /v1"),
        (Reply(b'{"choices": []}'), r"JSON without choices\[0\]"),
        (Reply(b""), "it is empty"),
    ],
)
def test_a_server_that_stays_bad_is_one_message(chat_server, bad, message):
    chat_server.reply = lambda body: bad
    found = refusal(chat_server, names=["record 'a'"])
    assert found.startswith(f"endpoint {chat_server.url}, record 'a': ")
    assert re.search(message, found)


def test_retry_after_is_waited_for(chat_server):
    chat_server.replies = [Reply(b"", 429, {"Retry-After": "1"})]
    ask(chat_server)
    assert 0.95 < chat_server.times[1] - chat_server.times[0] < 4


def test_no_call_is_held_for_ever(chat_server):
    for reply in (chat("x", drip=0.1), chat("x", wait=30.0)):
        chat_server.reply = lambda body, reply=reply: reply
        begin = time.monotonic()
        assert "no whole answer within 0.3 s" in refusal(chat_server, timeout=0.3)
        assert time.monotonic() - begin < 4  # two requests and the pause between them


def test_an_endless_answer_is_refused(chat_server, monkeypatch):
    monkeypatch.setattr("experiments.common.chats.endpoint._LARGEST", 1 << 20)
    chat_server.reply = lambda body: chat("x" * (1 << 21))
    assert "more than 1 MiB" in refusal(chat_server)
    assert len(chat_server.bodies) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_gets_no_key(chat_server, status):
    with running_server() as other:
        for target in (other.url, f"http://localhost:{other.server_port}/steal", "/elsewhere"):
            chat_server.reply = lambda body, to=target: Reply(b"", status, {"Location": to})
            assert f"status {status}: it sends elsewhere" in refusal(chat_server)
        assert other.headers == []
        assert set(chat_server.paths) == {"/v1/chat/completions"}


def test_a_key_that_comes_back_is_taken_out(chat_server, caplog):
    caplog.set_level(logging.DEBUG)
    said = f"Bearer {KEY} is {KEY[:12]} no {KEY.lower()} key"
    escaped = "".join(f"\\u{ord(c):04x}" for c in said)
    for status in (400, 401, 429, 500):
        for body in (
            said,
            json.dumps({"error": {"message": said}}),
            f'{{"error":{{"message":"{escaped}"}}}}',
        ):
            chat_server.reply = lambda _, b=body, s=status: Reply(b.encode(), s)
            refusal(chat_server, retries=0)
    chat_server.reply = lambda body: chat(f"you said {KEY}", reason=KEY)
    [answer] = ask(chat_server)
    assert answer.text == "you said [key]"
    assert KEY not in repr(answer)
    assert KEY not in caplog.text
    # A placeholder that local servers are given is a word like others.
    chat_server.reply = lambda body: chat("none of them")
    assert ask(chat_server, api_key="none")[0].text == "none of them"


def test_a_password_of_the_address_is_sent_and_never_shown(chat_server, caplog):
    caplog.set_level(logging.DEBUG)
    url = chat_server.url.replace("http://", "http://me:passw0rd%40x@")
    model = endpoint_model(url, model="m")
    assert model.answer([USER], Limits())[0].text == "answer to hello"
    assert chat_server.headers[0]["Authorization"] == "Basic bWU6cGFzc3cwcmRAeA=="
    assert "passw0rd" not in repr(model) + json.dumps(model.identity) + caplog.text
    chat_server.reply = lambda body: Reply(b'{"error": {"message": "bWU6cGFzc3cwcmRAeA=="}}', 400)
    assert "bWU6" not in refusal(chat_server, url=url, api_key=None)
    with pytest.raises(UserError, match=f"endpoint {chat_server.url}: give a key or .*not both"):
        endpoint_model(url, model="m", api_key=KEY)


@pytest.mark.parametrize(
    "key", ["sk-passw0rd\nx", "sk passw0rd", "sk-passw0rd\u2019", "passw0rd\0"]
)
def test_keys_that_are_none(key):
    with pytest.raises(UserError, match="the endpoint's key has a line end, a space") as raised:
        endpoint_model("http://localhost/v1", model="m", api_key=key)
    assert "passw0rd" not in str(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passw0rd",
        "localhost:8000",
        "http://",
        "http://[::bad:passw0rd",
        "http://u:passw0rd@",
        "http://u:passw0rd@host:99999/v1",
        "http://u:8/passw0rd@host/v1",
        "http://host/v1?key=passw0rd",
        "http://host/v1#passw0rd",
        "http://u:passw0rd@ho st/v1",
        "http://host\n/passw0rd",
        "http://u:passw0rd\u00fc@host",
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(
        UserError, match=r"the address of the endpoint .*localhost:8000/v1"
    ) as raised:
        endpoint_model(url, model="m")
    assert "passw0rd" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency=0"),
        ({"retries": -1}, "retries=-1"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"fields": {"messages": []}}, "fields: 'messages' is set"),
        ({"fields": {"max_tokens": 3}}, "fields: 'max_tokens' is set"),
        ({"model": ""}, "name of the model"),
    ],
)
def test_options_that_are_none(options, message):
    with pytest.raises(UserError, match=message):
        endpoint_model("http://localhost/v1", **{"model": "m", **options})


def test_no_server_and_no_package(monkeypatch):
    found = refusal(None, url="http://127.0.0.1:9/v1", retries=0)
    assert found.startswith("endpoint http://127.0.0.1:9/v1, conversation 0: no whole answer")
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UserError, match=r"pip install 'gdpo-jax\[endpoints\]'"):
        ask(None, url="http://127.0.0.1:9/v1")


def test_what_a_model_did_not_say(chat_server):
    for content, more, expected in (
        (None, {"refusal": "I will not"}, "I will not"),
        (None, {}, ""),
        ("", {}, ""),
    ):
        body = {"choices": [{"message": {"content": content, **more}, "finish_reason": "length"}]}
        body["usage"] = [3]
        chat_server.reply = lambda _, b=body: Reply(json.dumps(b).encode())
        [answer] = ask(chat_server, prices=Prices(1.0, 1.0))
        assert (answer.text, answer.finished) == (expected, False)
        assert (answer.prompt_tokens, answer.cost) == (None, None)
        assert bill_of([answer]).unpriced == 1


def test_after_a_failure_no_request_begins_and_those_under_way_are_kept(chat_server):
    chat_server.reply = lambda body: (
        Reply(b"", 400) if body["messages"][0]["content"] == "1" else chat("good", wait=0.1)
    )
    kept = {}
    model = endpoint_model(chat_server.url, model="m", concurrency=2)
    conversations = [[{"role": "user", "content": str(n)}] for n in range(9)]
    with pytest.raises(UserError, match="conversation 1: status 400"):
        model.answer(conversations, Limits(), on_answer=lambda n, answer: kept.update({n: answer}))
    assert list(kept) == [0]  # it was under way
    assert len(chat_server.bodies) == 2


def test_failures_that_are_taken_leave_the_others_alone(chat_server):
    bad = {"1": Reply(b"", 400), "4": Reply(b"", 503), "5": Reply(b"{", cut=0)}
    chat_server.reply = lambda body: bad.get(body["messages"][0]["content"]) or echo(body)
    failures = {}
    model = endpoint_model(chat_server.url, model="m", concurrency=2, retries=1)
    conversations = [[{"role": "user", "content": str(n)}] for n in range(7)]
    answers = model.answer(
        conversations, Limits(), on_failure=lambda n, error: failures.update({n: str(error)})
    )
    assert [n for n, answer in enumerate(answers) if answer is None] == [1, 4, 5]
    assert all(a.text == f"answer to {n}" for n, a in enumerate(answers) if a is not None)
    assert sorted(failures) == [1, 4, 5]
    assert "conversation 1: status 400" in failures[1]
    assert "conversation 4: status 503, after up to 2 requests" in failures[4]


@pytest.mark.parametrize("status", [401, 403, 302])
def test_what_every_request_would_meet_is_raised(chat_server, status):
    chat_server.reply = lambda body: Reply(b"", status)
    failures = []
    with pytest.raises(UserError, match=f"conversation 0: status {status}"):
        ask(chat_server, on_failure=lambda n, error: failures.append(n))
    assert failures == []
