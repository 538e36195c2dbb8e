"""Deletion of a user that is verified: afterwards no file of the store has anything of him.

SQLite overwrites deleted rows with zeros (`secure_delete`), but its log holds pages as they were,
and another program may have deleted rows without overwriting. So the log is cut, all files are
searched for what was deleted, and where the file still has any of it, it is written anew.
"""

import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.persona_leakage.store.database import ARTEFACTS, Database
from experiments.persona_leakage.store.keys import NotOpened, open_box, unwrap_sealer
from experiments.persona_leakage.store.records import user_id
from experiments.persona_leakage.store.traces import Words, search_file, words_of, words_within
from gdpo_jax.errors import UserError

__all__ = ["Deletion", "delete_user", "finish_deletions", "pending_deletions"]

_PENDING = "deletion "  # settings of this name: one for every deletion that is not verified yet


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """What was deleted, and where was looked for what is left of it.

    words: pieces of 16 bytes that were looked for, beside what stands for the user in every row
    shared: those of them that other users have as well, so that they tell nothing of him
    searched: bytes of every file, by its path within the store's folder
    rebuilt: was the file written anew, because traces were left in it?
    """

    user: str
    messages: int
    artefacts: int
    files: int
    words: int
    shared: int
    searched: dict[str, int]
    rebuilt: bool


def delete_user(database: Database, user: str) -> Deletion:
    """Deletes a user's messages, artefacts, files and key, and searches all files of the store.

    Looked for are the digest that every row of him begins with, and any piece of 23 bytes of his
    rows and texts. Outside of the search are shorter pieces, artefacts that were replaced before
    (their rows were overwritten then), what another program wrote compressed or in an encoding of
    its own, and what file system and disk keep of overwritten blocks.

    Raises `UserError` where others prevent the log's cutting, where a trace is left (names the
    file), and for a file that cannot be used. Then the user is there whole, but for files of his,
    or his rows are gone and the deletion is pending: it can be repeated, or `finish_deletions`.
    """
    identity, mark = user_id(database.vault, user), _PENDING + secrets.token_hex(8)
    with database.writing() as connection:
        earlier = pending_deletions(connection)  # of processes that ended before they had looked
        texts, counts = _stored(database, connection, user, identity)
        # Before the rows: what a kill leaves half is then still listed, and goes next time.
        files = _remove_folder(database.folder / ARTEFACTS / identity.hex())
        connection.execute("INSERT INTO settings VALUES (?, ?)", (mark, b""))
        for table in counts:
            connection.execute(f"DELETE FROM {table} WHERE user = ?", (identity,))
    rebuilt = bool(earlier)
    if rebuilt:
        database.rebuild()
    _cut_log(database)
    words = words_of(texts)
    left = _search(database, words, identity)
    if not rebuilt and any(path == database.path for path in left.traces):
        database.rebuild()
        _cut_log(database)
        left, rebuilt = _search(database, words, identity), True
    if left.traces:
        raise UserError(
            f"user {user!r} is deleted, but {left.traces[0]} still has something of him; was he "
            "written to meanwhile, or copied to another user's files? Delete him again, or the file"
        )
    with database.writing() as connection:
        _done(connection, [*earlier, mark])
    return Deletion(
        user=user,
        messages=counts["messages"],
        artefacts=counts["artefacts"],
        files=files,
        words=len(words.hashes),
        shared=left.shared,
        searched=left.searched,
        rebuilt=rebuilt,
    )


def finish_deletions(database: Database) -> int:
    """Writes the file anew for deletions that were not verified; returns how many there were.

    Their process was ended before it had looked, or is at it still. Raises `UserError` as
    `delete_user`.
    """
    with database.reading() as connection:
        pending = pending_deletions(connection)
    if pending:
        database.rebuild()
        _cut_log(database)
        with database.writing() as connection:
            _done(connection, pending)
    return len(pending)


def pending_deletions(connection: sqlite3.Connection) -> list[str]:
    """Marks of deletions that are not verified; they tell nothing of the users."""
    rows = connection.execute(
        "SELECT name FROM settings WHERE name LIKE ? || '%'", (_PENDING,)
    ).fetchall()
    return [name for (name,) in rows]


@dataclass(frozen=True)
class _Left:
    traces: tuple[Path, ...]
    shared: int
    searched: dict[str, int]


def _search(database: Database, words: Words, identity: bytes) -> _Left:
    """Which files have something of a user that nobody else has."""
    found, searched = {}, {}
    for path in sorted(path for path in database.folder.rglob("*") if path.is_file()):
        try:
            found[path] = search_file(path, words, identity)
            searched[path.relative_to(database.folder).as_posix()] = path.stat().st_size
        except FileNotFoundError:  # of another user, who was deleted meanwhile
            continue
        except OSError as error:
            raise UserError(f"cannot search {path}: {error.strerror}") from None
    met = np.unique(np.concatenate([one.hashes for one in found.values()]))
    # What others say as well is no trace of him; it is asked for only where something was found.
    common = words_within(met, _bodies(database)) if len(met) else met
    traces = [
        path for path, one in found.items() if one.name or len(np.setdiff1d(one.hashes, common))
    ]
    return _Left(tuple(traces), len(common), searched)


def _bodies(database: Database) -> Iterator[bytes]:
    with database.reading() as connection:
        for table in ("messages", "artefacts"):
            for (body,) in connection.execute(f"SELECT body FROM {table}"):
                yield body
        for row in connection.execute("SELECT name, key FROM users"):
            yield from row


def _stored(
    database: Database, connection: sqlite3.Connection, user: str, identity: bytes
) -> tuple[list[bytes], dict[str, int]]:
    """The bytes of a user's rows and, where they are encrypted, what they say; rows by table."""
    rows = {
        "messages": connection.execute(
            "SELECT body, position FROM messages WHERE user = ?", (identity,)
        ).fetchall(),
        "artefacts": connection.execute(
            "SELECT body, id FROM artefacts WHERE user = ?", (identity,)
        ).fetchall(),
        "users": connection.execute(
            "SELECT name, key FROM users WHERE user = ?", (identity,)
        ).fetchall(),
    }
    texts = [row[0] for found in rows.values() for row in found]
    for _, wrapped in rows["users"]:
        texts += [wrapped, user.encode()]
        try:
            sealer = unwrap_sealer(database.vault, user, wrapped)
        except NotOpened:  # damaged rows can be deleted as well
            continue
        for kind, table in (("message", "messages"), ("artefact", "artefacts")):
            for body, place in rows[table]:
                about = place if isinstance(place, int) else place.hex()
                try:
                    texts.append(open_box(sealer, body, kind, user, about))
                except NotOpened:
                    continue
    return texts, {table: len(found) for table, found in rows.items()}


def _remove_folder(folder: Path) -> int:
    files = sum(path.is_file() for path in folder.rglob("*"))
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise UserError(f"cannot delete {folder}: {error.strerror}; nothing else is") from None
    return files


def _cut_log(database: Database) -> None:
    if not database.truncate_log():
        raise UserError(
            f"what was deleted may still be in the log beside {database.path}, since another "
            "process has been reading for a minute; end it, then `store check --finish`"
        )


def _done(connection: sqlite3.Connection, marks: Sequence[str]) -> None:
    for mark in marks:
        connection.execute("DELETE FROM settings WHERE name = ?", (mark,))
