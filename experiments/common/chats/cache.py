"""Answers kept in a file of SQLite, so that none is paid for twice.

An answer is written as soon as it is there: a killed process loses those in flight at most. Two
processes may use one file. Rows are JSON with a digest; nothing is pickled.
"""

import dataclasses
import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.chats.messages import Conversation, check_conversation
from experiments.common.chats.model import (
    Answer,
    Limits,
    Model,
    OnAnswer,
    OnFailure,
    conversation_names,
)
from experiments.common.files.sqlite_file import Contents, damaged, open_connection, using
from gdpo_jax.errors import UserError

__all__ = ["Store", "cached", "open_store", "request_key"]

_CONTENTS = Contents(
    "kept answers",
    "give another name, restore it from a copy, or delete it, and what it held is asked and paid "
    "for anew",
)
_TABLE = (
    "CREATE TABLE IF NOT EXISTS known (key TEXT PRIMARY KEY, value TEXT NOT NULL, "
    "digest TEXT NOT NULL)"
)


def request_key(*parts: Any) -> str:
    """The sha256 of JSON values, whatever the order of their fields."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Store:
    """JSON objects by key, in one file; made by `open_store`. Usable from several threads."""

    path: Path
    connection: sqlite3.Connection = dataclasses.field(repr=False)
    lock: threading.Lock = dataclasses.field(repr=False)

    def get(self, key: str) -> dict[str, Any] | None:
        """What is known under `key`. Raises `UserError` for a damaged file."""
        with self.lock, using(self.path, _CONTENTS):
            row = self.connection.execute(
                "SELECT value, digest FROM known WHERE key = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        if not isinstance(row[0], str) or row[1] != request_key(key, row[0]):
            raise damaged(self.path, f"the row {key[:12]}... does not match its digest", _CONTENTS)
        return json.loads(row[0])

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keeps `value` under `key`, on disk when this returns; what is known already stays."""
        text = json.dumps(value)
        with self.lock, using(self.path, _CONTENTS):
            self.connection.execute(
                "INSERT OR IGNORE INTO known VALUES (?, ?, ?)", (key, text, request_key(key, text))
            )

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()


def open_store(path: Path) -> Store:
    """The store in a file, made unless it is there.

    Raises `UserError` for a file that is damaged, something else, or cannot be used.
    """

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute(_TABLE)
        # Finds another table of this name.
        connection.execute("SELECT key, value, digest FROM known LIMIT 1").fetchone()

    connection = open_connection(path, prepare, _CONTENTS)
    return Store(path, connection, threading.Lock())


def cached(model: Model, store: Store) -> Model:
    """The model, asked only for what the store does not know yet.

    A request is known by the model's identity, the messages and the limits, sample number
    included. Equal requests of one call are asked once. Failures are not kept.
    """
    return _Cached(model, store)


@dataclasses.dataclass(frozen=True)
class _Cached:
    model: Model
    store: Store

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.model.identity

    def answer(
        self,
        conversations: Sequence[Conversation],
        limits: Limits,
        *,
        names: Sequence[str] | None = None,
        on_answer: OnAnswer | None = None,
        on_failure: OnFailure | None = None,
    ) -> list[Answer | None]:
        names = conversation_names(conversations, names)
        identity, drawn = dict(self.identity), dataclasses.asdict(limits)
        checked = [check_conversation(c, name) for c, name in zip(conversations, names)]
        keys = [request_key(identity, messages, drawn) for messages in checked]
        answers: dict[int, Answer] = {}

        def found(n: int, answer: Answer) -> None:
            answers[n] = answer
            if on_answer is not None:
                on_answer(n, answer)

        asked: dict[str, list[int]] = {}
        for n, key in enumerate(keys):
            if key in asked:
                asked[key].append(n)
            elif (row := self.store.get(key)) is not None:
                found(n, Answer(**{**row, "cached": True}))
            else:
                asked[key] = [n]

        waiting = list(asked.items())

        def keep(position: int, answer: Answer) -> None:
            key, places = waiting[position]
            self.store.put(key, dataclasses.asdict(answer))
            for number, n in enumerate(places):
                found(n, dataclasses.replace(answer, cached=number > 0))

        def fail(position: int, error: UserError) -> None:
            for n in waiting[position][1]:
                on_failure(n, error)

        first = [places[0] for _, places in waiting]
        if first:
            self.model.answer(
                [checked[n] for n in first],
                limits,
                names=[names[n] for n in first],
                on_answer=keep,
                on_failure=None if on_failure is None else fail,
            )
        return [answers.get(n) for n in range(len(keys))]
