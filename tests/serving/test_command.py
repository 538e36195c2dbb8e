"""`python -m gdpo_jax serve`: what it opens, and what it refuses before that."""

import pytest
import uvicorn

from gdpo_jax.__main__ import main


@pytest.fixture
def started(monkeypatch):
    """What would be served, and where."""
    found = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: found.append((app, options)))
    return found


def serve(model, *more):
    return main(["serve", "--model", model.name, *more])


def test_a_folder_is_served(model, started, capsys, monkeypatch):
    monkeypatch.setenv("TRAINERS_KEY", "sesame-open")
    more = ("--port", "8123", "--name", "mine", "--parameters-key-variable", "TRAINERS_KEY")
    assert serve(model, *more) == 0
    [(app, options)] = started
    assert {"/v1/completions", "/v1/parameters"} <= {route.path for route in app.routes}
    assert (options["host"], options["port"]) == ("127.0.0.1", 8123)
    shown = capsys.readouterr().out
    assert "mine: http://127.0.0.1:8123/v1" in shown and "sesame" not in shown


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--port", "0"), "--port 0; give 1 to 65535"),
        (("--rows", "0"), "--rows 0"),
        (("--client-key-variable", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE: the environment"),
        (("--distributed",), "one process"),
    ],
)
def test_a_mistake_is_one_message(model, started, capsys, more, message):
    assert serve(model, *more) == 2
    assert message in capsys.readouterr().err.replace("\n", " ") and started == []
