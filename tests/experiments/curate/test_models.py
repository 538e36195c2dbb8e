"""What `--model` means, and the commands that take it."""

import json

import pytest

from experiments.common.chats.model import Limits
from experiments.common.command_line import main
from experiments.common.runs.chat_models import ModelOptions, open_chat_model
from experiments.curate.chat import chatting
from experiments.curate.serve.command import serving
from gdpo_jax.errors import UserError
from gdpo_jax.serving.access import read_key
from tests.experiments.chat_server import chat
from tests.experiments.curate.stub_models import entry, user
from tests.experiments.toy_experiment import EXPERIMENT


def test_an_endpoint_with_its_key_and_prices(chat_server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sesame-open-sesame\n")
    options = ModelOptions(
        model="m", url=chat_server.url, key_variable="SOME_KEY", prices=(1e6, 2e6), retries=0
    )
    [answer] = open_chat_model(options, EXPERIMENT).answer([[user("a")]], Limits())
    assert (answer.text, answer.cost) == ("answer to a", 7 + 2 * 3)
    assert chat_server.headers[0]["Authorization"] == "Bearer sesame-open-sesame"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key_variable": "SOME_KEY"}, "--key-variable belongs to an endpoint"),
        ({"prices": (1.0, 1.0)}, "--prices belongs to an endpoint"),
        ({"arm": "gdpo"}, "--arm gdpo belongs to a run folder"),
        ({"model": "no/such/folder"}, "no/such/folder"),
        ({"url": "http://localhost", "key_variable": "NO_SUCH"}, "NO_SUCH: .* is not set"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, says, monkeypatch):
    monkeypatch.delenv("NO_SUCH", raising=False)
    with pytest.raises(UserError, match=says):
        open_chat_model(ModelOptions(**options), EXPERIMENT)


def test_a_key_in_place_of_a_name_is_not_shown():
    with pytest.raises(UserError) as caught:
        read_key("sk-1234567890", "key-variable")
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    ("preset", "arm", "says"),
    [
        ({"name": "nonsense"}, "x", "made with a preset 'nonsense'"),
        ([], "x", "made with a preset None"),
        ({"name": next(iter(EXPERIMENT.presets))}, "x", "tells no data_dir"),
        ({"name": next(iter(EXPERIMENT.presets))}, "", "name one of its arms by --arm"),
    ],
)
def test_a_run_folder_that_is_not_ours_is_refused(tmp_path, preset, arm, says):
    (tmp_path / "preset.json").write_text(json.dumps(preset))
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match=says):
        open_chat_model(ModelOptions(model=str(tmp_path), arm=arm), EXPERIMENT)


def run(*arguments):
    commands = {"serve": serving(EXPERIMENT), "chat": chatting(EXPERIMENT)}
    return main(EXPERIMENT, commands, list(arguments))


def test_chat_from_the_command_line(chat_server, tmp_path, monkeypatch, capsys):
    def reply(body):
        first = body["messages"][0]["content"]
        return chat(entry() if "one JSON object" in first else "hello")

    chat_server.reply = reply
    questions = tmp_path / "questions"
    questions.write_text("I fear dogs.\nWhich pet?\n")
    with questions.open() as lines:
        monkeypatch.setattr("sys.stdin", lines)
        memory = str(tmp_path / "m.sqlite")
        options = ["--model", "m", "--url", chat_server.url, "--memory", memory]
        assert run("chat", *options, "--thinking.parts", "manager") == 0
    said = capsys.readouterr().out
    assert said.count("hello") == 2 and "up to date" in said and "allergic to nuts" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--thinking.parts", "manager"], "give --mirror"),
        (["--memory", "m.sqlite"], "give --mirror"),
        (["--port", "0"], "--port 0"),
        (["--max-new-tokens", "0"], "--max-new-tokens 0"),
        (["--most-bytes", "3"], "--most-bytes 3"),
        (["--client-key-variable", "NO_SUCH"], "NO_SUCH"),
    ],
)
def test_serve_refuses_what_it_cannot_do(arguments, says, capsys, monkeypatch):
    monkeypatch.delenv("NO_SUCH", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    assert run("serve", "--model", "m", "--url", "http://localhost:1/v1", *arguments) == 2
    assert says in capsys.readouterr().err
