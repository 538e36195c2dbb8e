"""The file of a store: its tables, and transactions of which one at a time writes.

SQLite keeps a write-ahead log, so that readers never wait; a transaction is on disk when it ends
(`synchronous = FULL`), and what it deletes is overwritten with zeros (`secure_delete`).
"""

import contextlib
import functools
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from experiments.common.files.sqlite_file import Contents, check_file, open_connection, using
from experiments.persona_leakage.store.keys import NotOpened, Vault, open_box, seal
from gdpo_jax.errors import UserError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = ["ARTEFACTS", "FILE", "Database", "open_database", "read_database"]

FILE, ARTEFACTS, _LOCK = "conversations.sqlite", "artefacts", "writer.lock"
_SCHEMA = 1  # PRAGMA user_version of the file
_CONTENTS = Contents("conversations", "give another folder, or restore it from a copy")
_PATIENCE = 60.0  # seconds for other processes to end their writings
_FIRST, _LONGEST = 0.001, 0.02  # seconds between tries, each twice as long as the one before

# Rows of a user lie together in the file (WITHOUT ROWID), so that reading him is one range of
# pages whoever else there is. `user` and `id` are digests; boxes say what is behind them.
_TABLES = {
    "settings": "name TEXT PRIMARY KEY, value BLOB NOT NULL",
    "users": "user BLOB PRIMARY KEY, name BLOB NOT NULL, key BLOB NOT NULL",
    "messages": "user BLOB, position INTEGER, id BLOB NOT NULL, body BLOB NOT NULL, "
    "PRIMARY KEY (user, position), UNIQUE (user, id)",
    "artefacts": "user BLOB, id BLOB, body BLOB NOT NULL, PRIMARY KEY (user, id)",
}


@dataclass(frozen=True)
class Database:
    """An open store; made by `open_database`. Usable from several threads, but not after a fork.

    fixed: nothing can change it, because it lies where nobody can write
    """

    folder: Path
    vault: Vault
    connection: sqlite3.Connection = field(repr=False)
    lock: threading.Lock = field(repr=False)
    fixed: bool = False

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.folder / FILE

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of the file. Raises `UserError` as `using`."""
        with self.lock, using(self.path, _CONTENTS), _transaction(self.connection, "BEGIN"):
            yield self.connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on disk when it ends, or leaves everything as it was.

        Raises `UserError` as `using`, and where others write for a minute.
        """
        with (
            self.alone(),
            using(self.path, _CONTENTS),
            _transaction(self.connection, "BEGIN IMMEDIATE"),
        ):
            yield self.connection

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other thread or process writes meanwhile, or moves the log into the file."""
        with self.lock, _only_writer(self.folder):
            yield

    def truncate_log(self) -> bool:
        """Moves the log into the file and cuts it to nothing; False where a reader prevented it."""
        with self.alone(), using(self.path, _CONTENTS):
            busy, _, _ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def rebuild(self) -> None:
        """Writes the file anew, from its rows alone. Needs as much space again meanwhile."""
        with self.alone(), using(self.path, _CONTENTS):
            self.connection.execute("VACUUM")

    def read_through(self) -> None:
        """Looks for damage in the whole file; raises `UserError` with the first."""
        with self.lock, using(self.path, _CONTENTS):
            check_file(self.connection)

    def close(self) -> None:
        """Closes the file; what was acknowledged is on disk whether or not this is called."""
        # The last one to close moves the log into the file.
        with self.lock if self.fixed else self.alone():
            self.connection.close()


def open_database(folder: Path, vault: Vault) -> Database:
    """The store in a folder, made unless it is there.

    Raises `UserError` for a wrong key, for a key where nothing is encrypted and the reverse, and
    for a file that is damaged, something else, of a later version, or cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / ARTEFACTS).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot use {folder}: {error.strerror}") from None
    prepare = functools.partial(_prepare, folder / FILE, vault)
    with _only_writer(folder):  # of two processes, one makes the tables
        connection = open_connection(folder / FILE, prepare, _CONTENTS, read_through=False)
    return Database(folder, vault, connection, threading.Lock())


def read_database(folder: Path, vault: Vault) -> Database:
    """The store in a folder for reading alone, also where nobody can write to the folder.

    Raises `UserError` where there is no store, and as `open_database`.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"no store of conversations in {folder}; give the folder of one")
    if os.access(folder, os.W_OK):
        database = open_database(folder, vault)
        with using(path, _CONTENTS):
            database.connection.execute("PRAGMA query_only = ON")
        return database
    log = path.with_name(f"{FILE}-wal")
    if log.is_file() and log.stat().st_size:
        raise UserError(
            f"{path} has a log of a program that was ended, and {folder} cannot be written; open "
            "the store once where it can"
        )
    with using(path, _CONTENTS):
        # SQLite would make a log beside the file unless it is told that the file never changes.
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?immutable=1",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _prepare(path, vault, connection)
        except BaseException:
            connection.close()
            raise
    return Database(folder, vault, connection, threading.Lock(), fixed=True)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself takes back some, such as on a full disk
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Holds a lock of the system beside SQLite's own, which another program may still hold.

    SQLite's waiting sleeps up to a tenth of a second and lets others pass. And before 3.51.3 two
    connections that write and move the log at the same moment may damage the file (sqlite.org,
    "The WAL-reset bug"); with this lock no two of ours do.
    """
    if fcntl is None:
        yield
        return
    path = folder / _LOCK
    try:
        file = path.open("ab")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    with file:
        deadline, wait = time.monotonic() + _PATIENCE, _FIRST
        while not _locked(file.fileno(), path):
            if time.monotonic() > deadline:
                raise UserError(
                    f"cannot write to {folder}: another process has been writing for "
                    f"{_PATIENCE:.0f} seconds; wait for its end, or stop it"
                )
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST)
        try:
            yield
        finally:  # not by closing alone: a process forked meanwhile has the file open as well
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def _locked(number: int, path: Path) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{path} cannot be locked ({error.strerror}); give a folder on a disk of this machine"
        ) from None
    return True


def _prepare(path: Path, vault: Vault, connection: sqlite3.Connection) -> None:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    if version > _SCHEMA:
        raise UserError(
            f"{path} was written by a later version of this program (schema {version}, this one "
            f"reads {_SCHEMA}); update, or give another folder"
        )
    if version == 0 and not found:
        connection.execute("PRAGMA journal_mode = WAL")
        with _transaction(connection, "BEGIN IMMEDIATE"):
            for name, columns in _TABLES.items():
                connection.execute(f"CREATE TABLE {name} ({columns}) WITHOUT ROWID")
            box = seal(vault.master, b"this key", "master key")
            connection.execute(
                "INSERT INTO settings VALUES (?, ?)",
                ("encrypted", box if vault.encrypted else b""),
            )
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
    elif {name for (name,) in found} != set(_TABLES):
        raise UserError(f"{path} is another program's file; give another folder")
    # Of this connection alone, so at every opening.
    for name in ("synchronous = FULL", "fullfsync = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {name}")
    [[box]] = connection.execute("SELECT value FROM settings WHERE name = 'encrypted'").fetchall()
    _check_key(path, vault, box)


def _check_key(path: Path, vault: Vault, box: bytes) -> None:
    if box and not vault.encrypted:
        raise UserError(f"{path} is encrypted; give its master key")
    if vault.encrypted and not box:
        raise UserError(f"{path} is not encrypted; leave the key out, or give another folder")
    try:
        open_box(vault.master, box, "master key")
    except NotOpened:
        raise UserError(f"{path} was encrypted with another master key; give that one") from None
