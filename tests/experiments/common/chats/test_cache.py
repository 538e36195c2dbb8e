"""Answers kept in a file: nothing is paid for twice, and damage is one message."""

import contextlib
import dataclasses
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from experiments.common.chats.cache import cached, open_store, request_key
from experiments.common.chats.endpoint import Prices, endpoint_model
from experiments.common.chats.model import Answer, Limits, bill_of, failed
from gdpo_jax.errors import UserError
from tests.experiments.chat_server import Reply, echo


@dataclasses.dataclass
class Counting:
    """Says the last message and a number; `asked` tells what it was asked."""

    name: str = "m"
    asked: list = dataclasses.field(default_factory=list)

    @property
    def identity(self):
        return {"model": self.name}

    def answer(self, conversations, limits, *, names=None, on_answer=None, on_failure=None):
        answers = []
        for n, conversation in enumerate(conversations):
            self.asked.append(conversation[-1]["content"])
            if conversation[-1]["content"] == "refused":
                failed(UserError(f"conversation {n}"), n, on_failure)
                answers.append(None)
                continue
            text = f"{conversation[-1]['content']} {len(self.asked)}"
            answers.append(Answer(text=text, reason="stop", completion_tokens=2, cost=0.5))
            on_answer(n, answers[-1])
        return answers


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(open_store(tmp_path / "new" / "answers.sqlite")) as opened:
        yield opened


def says(*texts):
    return [[{"role": "user", "content": text}] for text in texts]


def test_what_is_known_is_not_asked(store):
    inner = Counting()
    model = cached(inner, store)
    first = model.answer(says("a", "b", "a"), Limits())
    assert [answer.text for answer in first] == ["a 1", "b 2", "a 1"]
    assert [answer.cached for answer in first] == [False, False, True]
    again = {}
    second = model.answer(says("b", "c"), Limits(), on_answer=lambda n, a: again.update({n: a}))
    assert [(answer.text, answer.cached) for answer in second] == [("b 2", True), ("c 3", False)]
    assert again == dict(enumerate(second))
    bill = bill_of([*first, *second])
    assert (bill.asked, bill.cached, bill.completion_tokens, bill.cost) == (3, 2, 6, 1.5)


def test_failures_are_each_conversations_and_not_kept(store):
    inner = Counting()
    model = cached(inner, store)
    model.answer(says("a"), Limits())
    for _ in range(2):
        failures = []
        answers = model.answer(
            says("a", "refused", "b", "refused"),
            Limits(),
            on_failure=lambda n, _, failures=failures: failures.append(n),
        )
        assert [answer is None for answer in answers] == [False, True, False, True]
        assert failures == [1, 3]
    assert inner.asked == ["a", "refused", "b", "refused"]
    with pytest.raises(UserError, match="conversation 0"):
        model.answer(says("refused"), Limits())


def test_what_makes_another_request(store):
    inner = Counting()
    for limits in (
        Limits(),
        Limits(sample=1),
        Limits(seed=1),
        Limits(temperature=0.5),
        Limits(max_new_tokens=9),
        Limits(stop=("x",)),
    ):
        for conversation in (says("a")[0], [{"role": "system", "content": "s"}, *says("a")[0]]):
            for name in ("m", "n"):
                inner.name = name
                cached(inner, store).answer([conversation], limits)
    assert len(inner.asked) == 24
    inner.name = "m"
    cached(inner, store).answer([[{"content": "a", "role": "user"}]], Limits())
    assert len(inner.asked) == 24


def test_time_outs_keys_and_prices_make_no_other_request():
    models = [
        endpoint_model("http://me:pw@host/v1/", model="m", timeout=3, retries=0),
        endpoint_model("http://host/v1", model="m", api_key="k", prices=Prices(1, 2)),
    ]
    assert request_key(models[0].identity) == request_key(models[1].identity)
    other = endpoint_model("http://host/v1", model="m", fields={"top_p": 0.5})
    assert request_key(models[0].identity) != request_key(other.identity)


def test_a_run_that_was_cut_off_asks_only_for_the_rest(chat_server, store, tmp_path):
    texts = [str(n) for n in range(9)]
    key = "sk-SECRET-0123456789"
    chat_server.reply = lambda body: (
        echo(body) if len(chat_server.bodies) <= 4 else Reply(b'{"choices": [', cut=5)
    )
    options = {"model": "m", "api_key": key, "retries": 1, "concurrency": 1}
    model = cached(endpoint_model(chat_server.url, **options), store)
    with pytest.raises(UserError, match="record 4: no whole answer"):
        model.answer(says(*texts), Limits(), names=[f"record {t}" for t in texts])
    chat_server.reply, before = echo, len(chat_server.bodies)
    answers = model.answer(says(*texts), Limits())
    assert [answer.text for answer in answers] == [f"answer to {text}" for text in texts]
    assert [body["messages"][-1]["content"] for body in chat_server.bodies[before:]] == texts[4:]
    assert sum(answer.cached for answer in answers) == 4
    # Names stay those of the whole list, and the key is in no row.
    chat_server.reply = lambda body: Reply(b"", 404)
    with pytest.raises(UserError, match="conversation 9: status 404"):
        model.answer(says(*texts, "new"), Limits())
    assert key.encode() not in store.path.read_bytes()


def test_a_killed_process_loses_what_was_in_flight_at_most(chat_server, tmp_path):
    path = tmp_path / "answers.sqlite"
    code = (
        "import pathlib, sys\n"
        "from experiments.common.chats.cache import cached, open_store\n"
        "from experiments.common.chats.endpoint import endpoint_model\n"
        "from experiments.common.chats.model import Limits\n"
        "model = endpoint_model(sys.argv[1], model='m', concurrency=2)\n"
        "model = cached(model, open_store(pathlib.Path(sys.argv[2])))\n"
        "talks = [[{'role': 'user', 'content': str(n)}] for n in range(40)]\n"
        "model.answer(talks, Limits())\n"
    )
    enough = threading.Event()

    def reply(body):
        if len(chat_server.bodies) >= 12:
            enough.set()
        return dataclasses.replace(echo(body), wait=0.01)

    chat_server.reply = reply
    process = subprocess.Popen([sys.executable, "-c", code, chat_server.url, str(path)])
    assert enough.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    asked = len(chat_server.bodies)
    chat_server.reply = echo
    with contextlib.closing(open_store(path)) as store:
        model = cached(endpoint_model(chat_server.url, model="m"), store)
        answers = model.answer(says(*map(str, range(40))), Limits())
    assert [answer.text for answer in answers] == [f"answer to {n}" for n in range(40)]
    assert sum(answer.cached for answer in answers) >= asked - 4


def test_two_processes_share_a_file(store):
    code = (
        "import pathlib, sys\n"
        "from experiments.common.chats.cache import open_store\n"
        "store = open_store(pathlib.Path(sys.argv[1]))\n"
        "for n in range(40): store.put(f'{n}', {'by': sys.argv[2]})\n"
        "for n in range(40): store.put(f'{sys.argv[2]} {n}', {})\n"
        "store.close()\n"
    )
    arguments = [sys.executable, "-c", code, str(store.path)]
    both = [subprocess.Popen([*arguments, name]) for name in ("x", "y")]
    assert [process.wait() for process in both] == [0, 0]
    assert {store.get(str(n))["by"] for n in range(40)} <= {"x", "y"}
    assert store.get("x 39") == store.get("y 39") == {}
    store.put("0", {"by": "z"})
    assert store.get("0")["by"] != "z"


def damage(path, how):
    data = path.read_bytes()
    if how == "text":
        path.write_text('{"key": 3}\n' * 200)
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "zeros":
        path.write_bytes(data[:100] + b"\0" * (len(data) - 100))
    elif how == "flip":
        at = data.index(b"text of 7")
        path.write_bytes(data[:at] + b"p" + data[at + 1 :])
    elif how == "table":
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE known (name)")


@pytest.mark.parametrize("how", ["text", "cut", "zeros", "flip", "table"])
def test_damage_is_one_message(tmp_path, how):
    path = tmp_path / "answers.sqlite"
    with contextlib.closing(open_store(path)) as store:
        for n in range(30):
            store.put(str(n), {"text": f"text of {n} " * 99})
    damage(path, how)
    with (
        pytest.raises(UserError, match=r"answers\.sqlite is damaged.*delete it") as raised,
        contextlib.closing(open_store(path)) as store,
    ):
        for n in range(30):
            store.get(str(n))
    assert raised.value.__cause__ is None


def test_what_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "answers"):
        with pytest.raises(UserError, match="cannot use"):
            open_store(path)
    monkeypatch.setattr("experiments.common.files.sqlite_file._WAIT", 0.1)
    path = tmp_path / "held.sqlite"
    with contextlib.closing(open_store(path)) as store:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(UserError, match=r"held\.sqlite: database is locked"):
                store.put("a", {})
        store.put("a", {})
        assert store.get("a") == {}
