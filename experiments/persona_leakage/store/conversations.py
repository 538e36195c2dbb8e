"""Conversations of users, each read and written through a handle that is bound to one of them.

with closing(open_store(folder, key)) as store:
    store.user("ann").append([Message(id="1", conversation="c", role="user", content="Hello.")])

No function takes more than one user, and no row of one opens under another: a row that was moved
there is named as damaged.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import check_text
from experiments.persona_leakage.store.database import (
    ARTEFACTS,
    Database,
    open_database,
    read_database,
)
from experiments.persona_leakage.store.deletion import Deletion, delete_user
from experiments.persona_leakage.store.keys import (
    NotOpened,
    Sealer,
    new_sealer,
    seal,
    unwrap_sealer,
    vault_of,
)
from experiments.persona_leakage.store.records import (
    Message,
    check_message,
    check_user,
    close_artefact,
    close_message,
    message_id,
    open_artefact,
    open_message,
    user_id,
)
from gdpo_jax.errors import UserError

__all__ = ["ConversationStore", "Message", "UserStore", "open_store", "read_store"]


@dataclass(frozen=True)
class UserStore:
    """What is stored of one user. Every method raises `UserError` for a file that cannot be used.

    Artefacts are texts derived from his messages, such as notes or an enrolment; what other
    programs write as files, such as an adapter, belongs below `folder`, and is not encrypted.
    """

    user: str
    database: Database = field(repr=False)

    def append(self, messages: Sequence[Message]) -> int:
        """Stores messages behind the others, all or none; returns how many are new.

        They are on disk when this returns. A message that is there already is stored once.
        Raises `UserError` for another message under the same id.
        """
        for number, message in enumerate(messages):
            check_message(message, f"user {self.user!r}, message {number}")
        with self.database.writing() as connection:
            sealer = self._sealer(connection) or self._enrol(connection)
            [end] = connection.execute(
                "SELECT COALESCE(MAX(position), 0) FROM messages WHERE user = ?", (self.identity,)
            ).fetchone()
            last = end
            for message in messages:
                last += self._append(connection, sealer, last + 1, message)
            return last - end

    def exists(self) -> bool:
        """Is anything stored of him?"""
        with self.database.reading() as connection:
            return self._sealer(connection) is not None

    def read(self) -> tuple[Message, ...]:
        """His messages in the order they were stored; none for a user who is not there."""
        with self.database.reading() as connection:
            return self._messages(connection, self._sealer(connection))

    def put(self, name: str, text: str) -> None:
        """Stores an artefact in the place of an earlier one of that name."""
        check_user(name)
        check_text(text)
        with self.database.writing() as connection:
            sealer = self._sealer(connection) or self._enrol(connection)
            row = close_artefact(self.database.vault, sealer, self.user, name, text)
            connection.execute(
                "INSERT OR REPLACE INTO artefacts VALUES (?, ?, ?)",
                (self.identity, row["id"], row["body"]),
            )

    def artefacts(self) -> dict[str, str]:
        """His artefacts by name, in the names' order."""
        with self.database.reading() as connection:
            return self._artefacts(connection, self._sealer(connection))

    def make_folder(self) -> Path:
        """A folder for his files alone, made unless it is there; it goes when he is deleted."""
        with self.database.writing() as connection:
            if self._sealer(connection) is None:
                self._enrol(connection)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"cannot make {self.folder}: {error.strerror}") from None
        return self.folder

    @property
    def folder(self) -> Path:
        """Where his files are, if there are any."""
        return self.database.folder / ARTEFACTS / self.identity.hex()

    def export(self) -> list[dict[str, Any]]:
        """All that is stored of him as JSON rows: messages, artefacts, names and sizes of files."""
        with self.database.reading() as connection:
            sealer = self._sealer(connection)
            messages = self._messages(connection, sealer)
            artefacts = self._artefacts(connection, sealer)
        about = {"user": self.user}
        return [
            *({"kind": "message", **about, **asdict(message)} for message in messages),
            *({"kind": "artefact", **about, "name": n, "text": t} for n, t in artefacts.items()),
            *({"kind": "file", **about, **row} for row in _files(self.folder)),
        ]

    def delete(self) -> Deletion:
        """Deletes all that is stored of him, and looks for what is left of it (`delete_user`)."""
        return delete_user(self.database, self.user)

    @property
    def identity(self) -> bytes:
        """What stands for him in the file."""
        return user_id(self.database.vault, self.user)

    def _append(
        self, connection: sqlite3.Connection, sealer: Sealer, position: int, message: Message
    ) -> bool:
        identity = message_id(self.database.vault, self.user, message.id)
        row = connection.execute(
            "SELECT position, id, body FROM messages WHERE user = ? AND id = ?",
            (self.identity, identity),
        ).fetchone()
        if row is None:
            body = close_message(sealer, self.user, position, message)
            row = (self.identity, position, identity, body)
            connection.execute("INSERT INTO messages VALUES (?, ?, ?, ?)", row)
            return True
        if self._opened(sealer, *row) != message:
            raise UserError(
                f"user {self.user!r} has another message of id {message.id!r}; give it an id of "
                "its own"
            )
        return False

    def _messages(
        self, connection: sqlite3.Connection, sealer: Sealer | None
    ) -> tuple[Message, ...]:
        rows = connection.execute(
            "SELECT position, id, body FROM messages WHERE user = ? ORDER BY position",
            (self.identity,),
        ).fetchall()
        return tuple(self._opened(sealer, *row) for row in rows)

    def _artefacts(self, connection: sqlite3.Connection, sealer: Sealer | None) -> dict[str, str]:
        rows = connection.execute(
            "SELECT id, body FROM artefacts WHERE user = ?", (self.identity,)
        ).fetchall()
        with self._named("an artefact"):
            found = [
                open_artefact(self.database.vault, self._known(sealer), self.user, row)
                for row in rows
            ]
        return dict(sorted(found))

    def _opened(self, sealer: Sealer | None, position: int, *row: bytes) -> Message:
        with self._named(f"message {position}"):
            return open_message(self.database.vault, self._known(sealer), self.user, position, row)

    def _known(self, sealer: Sealer | None) -> Sealer:
        if sealer is None:  # rows without their user
            raise NotOpened
        return sealer

    def _sealer(self, connection: sqlite3.Connection) -> Sealer | None:
        row = connection.execute(
            "SELECT key FROM users WHERE user = ?", (self.identity,)
        ).fetchone()
        if row is None:
            return None
        with self._named("the key"):
            return unwrap_sealer(self.database.vault, self.user, row[0])

    def _enrol(self, connection: sqlite3.Connection) -> Sealer:
        vault = self.database.vault
        sealer = new_sealer(vault, self.user)
        name = seal(vault.master, self.user.encode(), "name", self.identity.hex())
        connection.execute(
            "INSERT INTO users VALUES (?, ?, ?)", (self.identity, name, sealer.wrapped)
        )
        return sealer

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except NotOpened:
            raise UserError(
                f"{self.database.path}: {what} of user {self.user!r} is damaged, or was moved "
                "there from elsewhere; restore the file from a copy, or delete the user"
            ) from None


@dataclass(frozen=True)
class ConversationStore:
    """The store in a folder; made by `open_store`. Usable from several threads and processes."""

    database: Database = field(repr=False)

    def user(self, user: str) -> UserStore:
        """The handle of one user, who need not be there yet. Raises `UserError` for no name."""
        check_user(user)
        return UserStore(user, self.database)

    def close(self) -> None:
        """Closes the file."""
        self.database.close()


def open_store(folder: Path, key: bytes | None = None) -> ConversationStore:
    """The store in a folder, made unless it is there; encrypted where a master key is given.

    key: 32 bytes; without them nobody can read anything, so keep a copy of them.

    Raises `UserError` for a wrong key, for a key where nothing is encrypted and the reverse, and
    for a file that is damaged, something else, of a later version, or cannot be used.
    """
    return ConversationStore(open_database(folder, vault_of(key)))


def read_store(folder: Path, key: bytes | None = None) -> ConversationStore:
    """The store in a folder for reading alone, also where nobody can write to the folder.

    Raises `UserError` where there is none, and as `open_store`; writing raises it too.
    """
    return ConversationStore(read_database(folder, vault_of(key)))


def _files(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        name = path.relative_to(folder).as_posix()
        rows.append({"name": name, "bytes": path.stat().st_size, "sha256": sha256})
    return rows
