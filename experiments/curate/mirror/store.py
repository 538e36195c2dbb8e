"""Memories of users in one file of SQLite: saved, loaded, listed and cleared.

A change is one transaction that reads and writes: neither two threads nor two processes lose each
other's, and a killed process leaves the last whole one. Rows are JSON; nothing is pickled.
"""

import contextlib
import dataclasses
import functools
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from experiments.common.files.sqlite_file import Contents, open_connection, using
from experiments.curate.mirror.memory import Bounds, Memory, from_record, to_record
from gdpo_jax.errors import UserError

__all__ = ["Memories", "Saved", "open_memories"]

_SCHEMA = 1  # PRAGMA user_version of the file
_CONTENTS = Contents("memories", "give another name, or restore it from a copy")
_TABLE = (
    "CREATE TABLE memories (user TEXT PRIMARY KEY, memory TEXT NOT NULL, changed REAL NOT NULL)"
)

Change: TypeAlias = Callable[[Memory | None], Memory | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """What a list of memories tells of one."""

    user: str
    turns: int
    changed: float  # seconds since 1970


@dataclasses.dataclass(frozen=True)
class Memories:
    """The memories in a file; made by `open_memories`. Usable from several threads.

    Every method raises `UserError` for a file that cannot be used, or a damaged memory, by name.
    """

    path: Path
    bounds: Bounds
    connection: sqlite3.Connection = dataclasses.field(repr=False)
    lock: threading.Lock = dataclasses.field(repr=False)

    def load(self, user: str) -> Memory | None:
        """The memory of a user; None where there is none."""
        with self._transaction():
            return self._load(user)

    def change(
        self, user: str, function: Callable[[Memory | None], Memory | None]
    ) -> Memory | None:
        """Puts what the function makes of a user's memory in its place; None leaves it as it is."""
        with self._transaction():
            changed = function(self._load(user))
            if changed is not None:
                self.connection.execute(
                    "INSERT OR REPLACE INTO memories VALUES (?, ?, ?)",
                    (user, json.dumps(to_record(changed)), time.time()),
                )
            return changed

    def users(self) -> list[Saved]:
        """All users with a memory, the latest change first."""
        with self._transaction():
            rows = self.connection.execute(
                "SELECT user, memory, changed FROM memories ORDER BY changed DESC, user"
            ).fetchall()
        return [
            Saved(user=user, turns=self._read(user, text).turn, changed=changed)
            for user, text, changed in rows
        ]

    def clear(self, user: str) -> bool:
        """Forgets a user. Was there anything?"""
        with self._transaction():
            done = self.connection.execute("DELETE FROM memories WHERE user = ?", (user,))
            return done.rowcount > 0

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()

    def _load(self, user: str) -> Memory | None:
        row = self.connection.execute(
            "SELECT memory FROM memories WHERE user = ?", (user,)
        ).fetchone()
        return None if row is None else self._read(user, row[0])

    def _read(self, user: str, text: str) -> Memory:
        try:
            return from_record(json.loads(text), self.bounds)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(
                f"{self.path}: the memory of user {user!r} is damaged; clear it, or restore the "
                "file from a copy"
            ) from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self.lock, using(self.path, _CONTENTS):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")


def open_memories(path: Path, bounds: Bounds) -> Memories:
    """The memories in a file, made unless it is there.

    Raises `UserError` for a file that is damaged, something else, of a later version, or cannot be
    used.
    """
    connection = open_connection(path, functools.partial(_prepare, path), _CONTENTS)
    return Memories(path, bounds, connection, threading.Lock())


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")  # of two processes, one makes the table
    [version] = connection.execute("PRAGMA user_version").fetchone()
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    if version == 0 and not tables:
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA user_version = {_SCHEMA}")
    connection.execute("COMMIT")
    if (version == 0 and tables) or (version and tables != [("memories",)]):
        raise UserError(f"{path} is another program's file; give another name")
    if version > _SCHEMA:
        raise UserError(
            f"{path} was written by a later version of this program (schema {version}, this one "
            f"reads {_SCHEMA}); update, or give another name"
        )
