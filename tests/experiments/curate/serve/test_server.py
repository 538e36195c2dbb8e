"""The server on the loopback interface, asked by the real openai client."""

import contextlib
import json
import threading
import time

import pytest

pytest.importorskip("starlette", reason="no starlette; install the extra serve")
pytest.importorskip("uvicorn", reason="no uvicorn; install the extra serve")
pytest.importorskip("openai", reason="no openai; install the extra endpoints")

import openai
import uvicorn

from experiments.common.chats.endpoint import endpoint_model
from experiments.common.chats.model import Limits
from experiments.curate.mirror.memory import Bounds
from experiments.curate.mirror.runtime import Pace, Runtime
from experiments.curate.mirror.store import open_memories
from experiments.curate.mirror.thinking import Thinking
from experiments.curate.serve.app import ServerOptions, make_app
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub, said_by, user

FEAR = [user("I fear dogs. Who are you?")]


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """A function that starts a server around `say` and gives a client of it."""
    monkeypatch.setenv("no_proxy", "*")
    with contextlib.ExitStack() as stack:

        def start(say=None, pace=None, mirror=True, **options):
            model = Stub(say or said_by())
            memories = open_memories(tmp_path / "memories", Bounds())
            stack.callback(memories.close)
            thinking = Thinking() if mirror else None
            app = make_app(
                lambda: Runtime(model, memories, thinking, pace or Pace(), lambda event: None),
                memories if mirror else None,
                ServerOptions(name="m", max_new_tokens=100, most_bytes=5000, **options),
            )
            config = uvicorn.Config(app, port=0, log_level="critical")
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            port = server.servers[0].sockets[0].getsockname()[1]
            client = openai.OpenAI(
                base_url=f"http://127.0.0.1:{port}/v1",
                api_key=options.get("key") or "none",
                max_retries=0,
            )
            stack.callback(client.close)
            return client, model, memories

        yield start


def ask(client, messages=FEAR, **more):
    return client.chat.completions.create(model="m", messages=messages, **more)


def test_an_answer_and_the_memory_of_its_user(serve):
    client, model, memories = serve(said_by(controller="he fears dogs"), Pace(wait=30))
    first = ask(client, user="ann", max_tokens=9, temperature=0.5, seed=4)
    assert first.choices[0].message.content == "hello"
    assert first.choices[0].finish_reason == "stop" and first.object == "chat.completion"
    assert (first.usage.prompt_tokens, first.usage.total_tokens) == (7, 10)
    assert first.mirror == {"turn": 1, "narrative_age": None}
    _, messages, limits = model.asked[0]
    assert messages == FEAR
    assert limits == Limits(max_new_tokens=9, temperature=0.5, seed=4)
    # Another conversation of the same user knows; another user's, and one without, do not.
    second = ask(client, [user("Which pet?")], user="ann")
    assert second.mirror == {"turn": 2, "narrative_age": 0}
    talked = [messages for part, messages, _ in model.asked if part == "talker"]
    for known in ("he fears dogs", "I fear dogs."):
        assert known in talked[-1][0]["content"]
    for other in ({"user": "bob"}, {}):
        assert ask(client, [user("Which pet?")], **other).choices[0].message.content == "hello"
        assert [m for part, m, _ in model.asked if part == "talker"][-1] == [user("Which pet?")]
    assert {saved.user for saved in memories.users()} == {"ann", "bob"}


def test_a_stream_holds_the_same_answer_in_pieces(serve):
    text = "  Hello,\n\nann: \N{PILE OF POO} 1 2  3\n"
    client, _, _ = serve(said_by(talker=text))
    chunks = list(ask(client, user="ann", stream=True, stream_options={"include_usage": True}))
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == text and len([p for p in pieces if p]) == 6
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].mirror == {"turn": 1, "narrative_age": None}
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 10
    assert len({chunk.id for chunk in chunks}) == 1
    # Without the option there is no chunk of usage.
    assert all(chunk.choices for chunk in ask(client, stream=True))


def test_models_are_listed(serve):
    client, _, _ = serve()
    assert [m.id for m in client.models.list()] == ["m"]
    assert client.models.retrieve("m").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other/one")


@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_errors_of_the_protocol(serve, stream):
    client, model, memories = serve(said_by(talker=UserError("status 500")))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, user="ann", stream=stream)
    assert caught.value.status_code == 502 and "status 500" in caught.value.message
    assert caught.value.code == "model_failed" and caught.value.type == "server_error"
    model.say = said_by(talker=RuntimeError("a secret of ours"))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, user="ann", stream=stream)
    assert caught.value.status_code == 500 and "secret" not in str(caught.value)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, stream=stream, temperature=3)
    assert caught.value.param == "temperature" and "temperature" in caught.value.message
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="other", messages=FEAR, stream=stream)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, [user("a" * 5000)], stream=stream)
    assert caught.value.status_code == 413
    with pytest.raises(openai.NotFoundError):
        client.post("/embeddings", cast_to=object, body={})
    with pytest.raises(openai.APIStatusError) as caught:
        client.get("/chat/completions", cast_to=object)
    assert caught.value.status_code == 405
    assert memories.load("ann").narrative == ""
    # The server goes on.
    model.say = said_by()
    assert ask(client, user="ann").choices[0].message.content == "hello"


@pytest.fixture
def hanging():
    """A talker that answers once `opened` is set, and tells that it is asked."""
    opened, reached = threading.Event(), threading.Event()

    def hang(messages):
        reached.set()
        opened.wait(30)
        return "hello"

    yield hang, opened, reached
    opened.set()


def test_a_talker_that_hangs_is_a_time_out(serve, hanging):
    client, _, _ = serve(said_by(talker=hanging[0]), Pace(talker_timeout=0.05))
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client)
    assert (caught.value.status_code, caught.value.code) == (504, "model_timeout")
    hanging[1].set()


def test_more_requests_than_allowed_are_refused_for_the_time_being(serve, hanging):
    talker, opened, reached = hanging
    client, _, _ = serve(said_by(talker=talker), Pace(most_waiting=1))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(client)))
    thread.start()
    reached.wait(30)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.response.headers["retry-after"] == "1"
    opened.set()
    thread.join()
    assert answers[0].choices[0].message.content == "hello"


def test_a_thinker_that_fails_fails_no_request(serve):
    client, _, memories = serve(said_by(manager=UserError("status 500")), Pace(wait=30))
    for _ in range(2):
        assert ask(client, user="ann").choices[0].message.content == "hello"
    assert memories.load("ann").turn == 2


def test_a_key_is_asked_for_where_one_is_set(serve):
    client, _, _ = serve(key="sesame-open")
    assert ask(client).choices[0].message.content == "hello"
    for wrong in (client.with_options(api_key="sesame"), client.with_options(api_key="ö")):
        with pytest.raises((openai.AuthenticationError, UnicodeEncodeError)):
            ask(wrong)
        with pytest.raises((openai.AuthenticationError, UnicodeEncodeError)):
            wrong.models.list()


def test_memories_are_listed_shown_and_cleared(serve):
    client, _, memories = serve(pace=Pace(wait=30))
    for name in ("ann", "bob/1"):
        ask(client, user=name)
        ask(client, user=name)
    listed = client.get("/memories", cast_to=object)["data"]
    assert {row["user"]: row["turns"] for row in listed} == {"ann": 2, "bob/1": 2}
    shown = client.get("/memories/bob/1", cast_to=object)
    assert shown["facts"] == ["I fear dogs."] and shown["narrative"] == "he must not eat nuts"
    assert client.delete("/memories/bob/1", cast_to=object) == {"user": "bob/1", "deleted": True}
    assert memories.load("bob/1") is None and memories.load("ann") is not None
    with pytest.raises(openai.NotFoundError):
        client.get("/memories/bob/1", cast_to=object)


def test_without_mirror_it_passes_on_what_it_is_given(serve):
    client, model, _ = serve(mirror=False)
    assert ask(client, user="ann").choices[0].message.content == "hello"
    assert model.parts() == ["talker"] and model.asked[0][1] == FEAR
    with pytest.raises(openai.NotFoundError):
        client.get("/memories", cast_to=object)


def test_our_own_endpoint_model_talks_to_it(serve):
    client, _, _ = serve()
    model = endpoint_model(str(client.base_url), model="m", fields={"user": "ann"})
    answers = model.answer([FEAR, FEAR], Limits(max_new_tokens=5))
    assert [(a.text, a.reason, a.completion_tokens) for a in answers] == [("hello", "stop", 3)] * 2


def test_many_users_at_once_keep_their_own(serve):
    def control(messages):
        return f"narrative about {json.dumps(messages[1]['content'])[-200:]}"

    def manage(messages):
        said = messages[1]["content"].split("User: I am ")[-1].split(" ")[0]
        return json.dumps({"goal": said, "reasoning": said, "memory": said})

    client, _, memories = serve(said_by(manager=manage, controller=control), Pace(wait=30))

    def talk(name):
        for _ in range(2):
            ask(client, [user(f"I am {name} and fear dogs.")], user=name)

    names = [f"user{n}" for n in range(6)]
    threads = [threading.Thread(target=talk, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        memory = str(memories.load(name))
        assert name in memory
        assert not any(other in memory for other in names if other != name)
