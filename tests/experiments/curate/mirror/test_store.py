"""Memories in a file: threads, killed processes, and files that are something else."""

import contextlib
import dataclasses
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from experiments.curate.mirror.memory import Bounds, Memory, Monologue, begin_turn
from experiments.curate.mirror.store import open_memories
from gdpo_jax.errors import UserError

BOUNDS = Bounds()
MEMORY = Memory(
    session="s",
    turn=3,
    thought=2,
    narrative="He fears dogs.",
    narrated=2,
    monologues=(Monologue(goal="g", reasoning="r", memory="m"),),
    facts=("I fear dogs.",),
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "folder" / "memories.sqlite"


@pytest.fixture
def memories(file):
    with contextlib.closing(open_memories(file, BOUNDS)) as opened:
        yield opened


def test_saved_loaded_listed_and_cleared(file, memories):
    assert memories.load("ann") is None and memories.users() == []
    assert memories.change("ann", lambda memory: None if memory is None else MEMORY) is None
    assert memories.load("ann") is None
    assert memories.change("ann", lambda memory: memory or MEMORY) == MEMORY
    memories.change("bob", lambda memory: begin_turn(memory or Memory(session="t")))
    with contextlib.closing(open_memories(file, BOUNDS)) as again:
        assert again.load("ann") == MEMORY
        assert {saved.user: saved.turns for saved in again.users()} == {"ann": 3, "bob": 1}
        assert again.clear("ann") and not again.clear("ann")
    assert memories.load("ann") is None and memories.load("bob").turn == 1


def test_a_change_that_raises_leaves_what_was_there(memories):
    memories.change("ann", lambda memory: MEMORY)
    with pytest.raises(ZeroDivisionError):
        memories.change("ann", lambda memory: 1 / 0)
    assert memories.load("ann") == MEMORY


def test_changes_of_many_threads_and_connections_are_all_there(file, memories):
    with contextlib.closing(open_memories(file, BOUNDS)) as other:

        def count(opened):
            for _ in range(20):
                opened.change("ann", lambda memory: begin_turn(memory or Memory()))

        threads = [threading.Thread(target=count, args=[m]) for m in (memories, other) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert memories.load("ann").turn == 80


KILLED = """
import pathlib, sys
from experiments.curate.mirror.memory import Bounds, Memory, begin_turn
from experiments.curate.mirror.store import open_memories
memories = open_memories(pathlib.Path(sys.argv[1]), Bounds())
while True:
    print(memories.change("ann", lambda memory: begin_turn(memory or Memory())).turn, flush=True)
"""


def test_a_killed_process_leaves_the_last_whole_change(file):
    file.parent.mkdir()
    command = [sys.executable, "-c", KILLED, str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    told = [int(process.stdout.readline()) for _ in range(3)][-1]
    process.send_signal(signal.SIGKILL)
    told = ([told] + [int(n) for n in process.stdout.read().split()])[-1]
    process.wait()
    process.stdout.close()
    with contextlib.closing(open_memories(file, BOUNDS)) as memories:
        assert memories.load("ann").turn in (told, told + 1)
        memories.change("ann", begin_turn)


def test_a_damaged_memory_is_named_and_can_be_cleared(file, memories):
    memories.change("ann", lambda memory: MEMORY)
    memories.change("bob", lambda memory: MEMORY)
    for text in ('{"turn"', "[]", '{"turn": 1}', "null"):
        memories.connection.execute("UPDATE memories SET memory = ? WHERE user = 'ann'", (text,))
        with pytest.raises(UserError, match="memory of user 'ann' is damaged"):
            memories.load("ann")
    assert memories.load("bob") == MEMORY
    assert memories.clear("ann") and memories.load("ann") is None


def test_other_files_are_refused_and_left_as_they_are(tmp_path):
    text = tmp_path / "notes"
    text.write_text("shopping: nuts " * 100)
    other = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE pets (name TEXT)")
    later = tmp_path / "later.sqlite"
    open_memories(later, BOUNDS).close()
    with contextlib.closing(sqlite3.connect(later)) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = [path.read_bytes() for path in (text, other, later)]
    for path, reason in [
        (text, "no file of memories"),
        (other, "another program's file"),
        (later, "later version"),
        (tmp_path, "cannot use"),
        (text / "below", "cannot use"),
    ]:
        with pytest.raises(UserError, match=reason):
            open_memories(path, BOUNDS)
    assert [path.read_bytes() for path in (text, other, later)] == before


def test_a_memory_is_read_within_the_bounds_of_now(file, memories):
    memories.change("ann", lambda memory: dataclasses.replace(MEMORY, narrative="word " * 2000))
    with contextlib.closing(open_memories(file, Bounds(narrative=5))) as again:
        assert len(again.load("ann").narrative) <= 20
