"""The chat in the terminal, line by line and with a terminal."""

import asyncio
import contextlib
import io
import os
import pty

import pytest
from rich.console import Console

from experiments.common.chats.model import Limits
from experiments.curate.chat import converse
from experiments.curate.mirror.log import CostLog
from experiments.curate.mirror.memory import Bounds
from experiments.curate.mirror.runtime import Pace, Runtime
from experiments.curate.mirror.store import open_memories
from experiments.curate.mirror.thinking import Thinking
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub, assistant, said_by, user


@pytest.fixture
def memories(tmp_path):
    with contextlib.closing(open_memories(tmp_path / "memories", Bounds())) as opened:
        yield opened


def talk(lines, memories, model, log=None):
    """What the chat prints."""
    console = Console(file=io.StringIO(), width=100)
    events = CostLog(log, console)
    asyncio.run(
        converse(
            lambda: Runtime(model, memories, Thinking(), Pace(wait=30), events),
            memories,
            "ann",
            Limits(),
            console=console,
            lines=lines,
            events=events,
        )
    )
    return console.file.getvalue()


def test_line_by_line_with_the_narrative_beside_the_answer(memories, tmp_path):
    model = Stub(said_by(talker="[bold]hello", controller="he fears dogs"))
    lines = "I fear dogs.\n\nWhich pet?\n/memory\n/users\n/costs\n/nonsense\n"
    said = talk(io.StringIO(lines), memories, model, tmp_path / "log.jsonl")
    assert "> I fear dogs." in said and said.count("[bold]hello") == 2  # texts are no markup
    assert "none yet" in said and "narrative, up to date" in said and "he fears dogs" in said
    assert "- I fear dogs." in said and "ann: 2 turns" in said and "/quit ends" in said
    assert "manager" in said and "controller" in said
    talked = [messages for part, messages, _ in model.asked if part == "talker"]
    assert talked[0] == [user("I fear dogs.")]
    assert talked[1][1:] == [user("I fear dogs."), assistant("[bold]hello"), user("Which pet?")]
    # The last turn is thought about before the end, and every answer and thought has its row.
    assert memories.load("ann").narrated == 2
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 4


def test_forgetting_and_beginning_anew(memories):
    model = Stub(said_by(controller="he fears dogs"))
    said = talk(
        io.StringIO("I fear dogs.\n/new\nHello.\n/clear\nBye.\n/quit\nNo.\n"), memories, model
    )
    assert "ann: forgotten" in said and "> No." not in said
    talked = [messages for part, messages, _ in model.asked if part == "talker"]
    # Another conversation knows the user; after forgetting, nothing is known.
    assert [m["role"] for m in talked[1]] == ["system", "user"]
    assert "he fears dogs" in talked[1][0]["content"]
    assert talked[2] == [user("Bye.")] and memories.load("ann").turn == 1


def test_a_turn_without_an_answer_is_no_part_of_the_conversation(memories):
    replies = ["hello", UserError("status 500"), "again"]
    model = Stub(said_by(talker=lambda messages: replies.pop(0)))
    said = talk(io.StringIO("One.\nTwo.\nThree.\n"), memories, model)
    assert "no answer" in said and "status 500" in said
    last = [messages for part, messages, _ in model.asked if part == "talker"][-1]
    assert [m["content"] for m in last[-3:]] == ["One.", "hello", "Three."]


def test_a_terminal(memories):
    ours, theirs = pty.openpty()
    with open(theirs, closefd=False) as lines:
        os.write(ours, b"I fear dogs.\nWhich pet?\n\x04")
        said = talk(lines, memories, Stub())
    os.close(ours)
    os.close(theirs)
    assert said.count("> ") >= 3 and said.count("hello") == 2 and "/quit ends" in said
    assert memories.load("ann").turn == 2
