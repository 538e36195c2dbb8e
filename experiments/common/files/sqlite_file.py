"""Files of SQLite that several threads and processes use, and what goes wrong with them."""

import contextlib
import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from gdpo_jax.errors import UserError

__all__ = ["Contents", "check_file", "damaged", "open_connection", "using"]

_WAIT = 60.0  # seconds for another process to finish its writing


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a file holds, and what to do where it cannot be read; both for messages."""

    name: str  # "memories"
    way_out: str  # "give another name, or restore it from a copy"


def open_connection(
    path: Path,
    prepare: Callable[[sqlite3.Connection], None],
    contents: Contents,
    *,
    read_through: bool = True,
) -> sqlite3.Connection:
    """A connection to a file, made unless it is there, that any thread may use under a lock.

    Every statement is a transaction of its own unless one is begun; the journal is SQLite's
    default unless `prepare` chooses another: one file that is gone between writings and rolled back
    after a kill. prepare: makes the tables, or checks them. read_through: looks for damage in the
    whole file, which takes the longer the larger it is.

    Raises `UserError` as `using`, and what `prepare` raises.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot use {path}: {error.strerror}") from None
    with using(path, contents):
        connection = sqlite3.connect(
            path, timeout=_WAIT, isolation_level=None, check_same_thread=False
        )
        try:
            prepare(connection)
            if read_through:
                check_file(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def check_file(connection: sqlite3.Connection) -> None:
    """Reads the whole file. Raises `sqlite3.DatabaseError` with the first damage found."""
    [problem] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if problem != "ok":
        raise sqlite3.DatabaseError(problem)


@contextlib.contextmanager
def using(path: Path, contents: Contents) -> Iterator[None]:
    """Turns what SQLite raises into one `UserError` that names the file and the way out."""
    try:
        yield
    except sqlite3.ProgrammingError:  # ours, not the file's
        raise
    except sqlite3.OperationalError as error:
        if "no such column" in str(error):
            raise damaged(path, "another table stands in it", contents) from None
        raise UserError(
            f"cannot use {path}: {error}; is the folder there and writable, the disk full, or "
            "another process writing all the time?"
        ) from None
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error), contents) from None


def damaged(path: Path, problem: str, contents: Contents) -> UserError:
    """What is said of a file that cannot be read."""
    return UserError(
        f"{path} is damaged, or no file of {contents.name} ({problem}); {contents.way_out}"
    )
