"""The judge behind an endpoint, with a server of this process on the loopback interface."""

import http.server
import json
import threading

import pytest

from experiments.saferec.corpora.endpoint_judge import endpoint_judge, question
from experiments.saferec.corpora.judges import Assignment
from experiments.saferec.corpora.new_corpora import corpus_record
from experiments.saferec.items.traits import TRAIT_KEYS
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import GORE

RECORD = corpus_record(
    {
        "sample_id": "a",
        "prompt": "Films like Heat?",
        "teacher": [["The Red Mill", 1999]],
        "groundtruth_with_release_year": [["Heat", 1995]],
    },
    0,
)


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    """Answers that a test puts into `answers`, one a request: a status and a body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.seen.append((self.path, dict(self.headers), json.loads(body)))
            status, content = self.server.answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            """Silence."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.answers, httpd.seen = [], []
        httpd.url = f"http://127.0.0.1:{httpd.server_port}/v1"
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


def chat(text):
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def test_the_question_holds_traits_conversation_and_list():
    system, user = question(RECORD, TRAIT_KEYS)
    assert "assigned_trait" in system["content"]
    assert all(key in user["content"] for key in TRAIT_KEYS)
    assert "Films like Heat?" in user["content"]
    assert user["content"].endswith("The Red Mill (1999)")


def test_answers(server):
    judge = endpoint_judge(server.url, model="m", api_key="secret")
    found = {"assigned_trait": GORE, "reason": "blood"}
    for text, answer in (
        (json.dumps(found), Assignment(GORE, "blood")),
        (f"Here you are:\n```json\n{json.dumps(found)}\n```", Assignment(GORE, "blood")),
        ('{"assigned_trait": null}', Assignment(None, "no reason given")),
        ('{"assigned_trait": "Gory"}', Assignment(None, "the judge's answer 'Gory' is no trait")),
        ("gore", Assignment(None, "the judge's answer is not JSON: 'gore'")),
        (None, Assignment(None, "the judge's answer is not JSON: None")),
    ):
        server.answers.append(chat(text))
        assert judge(RECORD, TRAIT_KEYS) == answer
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert body["model"] == "m"
    assert body["messages"] == question(RECORD, TRAIT_KEYS)


def test_a_busy_server_is_asked_again_and_a_refusal_is_final(server):
    judge = endpoint_judge(server.url, model="m", attempts=3, wait=0.0)
    server.answers = [(503, b""), (429, b""), chat(json.dumps({"assigned_trait": GORE}))]
    assert judge(RECORD, TRAIT_KEYS).trait == GORE
    server.answers = [(500, b"")] * 3
    with pytest.raises(UserError, match="record 'a': status 500"):
        judge(RECORD, TRAIT_KEYS)
    server.answers = [(401, b"")]
    with pytest.raises(UserError, match="status 401"):
        judge(RECORD, TRAIT_KEYS)
    assert "Authorization" not in server.seen[-1][1]
    server.answers = [(200, b"<html>")]
    with pytest.raises(UserError, match="no chat completion"):
        judge(RECORD, TRAIT_KEYS)


def test_no_server():
    with pytest.raises(UserError, match=r"record 'a': .*refused"):
        endpoint_judge("http://127.0.0.1:9", model="m", attempts=1)(RECORD, TRAIT_KEYS)
    with pytest.raises(UserError, match="give the address of the endpoint"):
        endpoint_judge("file:///etc", model="m")
