"""What a store's keeper sees without reading anybody's messages: cost per user, and damage."""

from dataclasses import dataclass
from pathlib import Path

from experiments.persona_leakage.store.conversations import ConversationStore
from experiments.persona_leakage.store.database import ARTEFACTS, Database
from experiments.persona_leakage.store.deletion import pending_deletions
from experiments.persona_leakage.store.keys import NotOpened, open_box
from gdpo_jax.errors import UserError

__all__ = ["Checked", "Cost", "check", "costs"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one user takes; bytes as they are stored, without SQLite's own.

    bytes: of messages, artefacts and files together, with his name and key
    """

    user: str
    messages: int
    message_bytes: int
    artefacts: int
    artefact_bytes: int
    files: int
    file_bytes: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found whole, and each problem in a sentence."""

    users: int
    messages: int
    problems: tuple[str, ...]


def costs(store: ConversationStore) -> list[Cost]:
    """The cost of every user, in the order of their names. Reads sizes, opens no message.

    Raises `UserError` for a file that cannot be used, and a name that is damaged.
    """
    counted: dict[str, dict[bytes, tuple[int, int]]] = {}
    with store.database.reading() as connection:
        users = connection.execute("SELECT user, name, key FROM users").fetchall()
        for table in ("messages", "artefacts"):
            rows = connection.execute(
                f"SELECT user, COUNT(*), SUM(LENGTH(body)) FROM {table} GROUP BY user"
            ).fetchall()
            counted[table] = {user: (count, size) for user, count, size in rows}
    found = []
    for identity, name, key in users:
        messages, message_bytes = counted["messages"].get(identity, (0, 0))
        artefacts, artefact_bytes = counted["artefacts"].get(identity, (0, 0))
        files = _sizes(store.database.folder / ARTEFACTS / identity.hex())
        found.append(
            Cost(
                user=_name(store.database, identity, name),
                messages=messages,
                message_bytes=message_bytes,
                artefacts=artefacts,
                artefact_bytes=artefact_bytes,
                files=len(files),
                file_bytes=sum(files),
                bytes=len(name) + len(key) + message_bytes + artefact_bytes + sum(files),
            )
        )
    return sorted(found, key=lambda cost: cost.user)


def check(store: ConversationStore) -> Checked:
    """Reads all of a store, user by user, and tells what is damaged or out of its place.

    Raises `UserError` for a file that cannot be used at all.
    """
    database = store.database
    database.read_through()
    problems, messages = [], 0
    with database.reading() as connection:
        users = connection.execute("SELECT user, name FROM users").fetchall()
        known = {identity for identity, _ in users}
        rows = [
            (table, identity)
            for table in ("messages", "artefacts")
            for (identity,) in connection.execute(f"SELECT DISTINCT user FROM {table}")
        ]
        pending = pending_deletions(connection)
    problems += [f"{table} of no user ({who.hex()})" for table, who in rows if who not in known]
    for identity, name in users:
        try:
            handle = store.user(_name(database, identity, name))
            if handle.identity != identity:
                raise UserError(f"the name of user {handle.user!r} stands for another one")
            messages += len(handle.read())
            handle.artefacts()
        except UserError as error:
            problems.append(str(error))
    folders = [path for path in (database.folder / ARTEFACTS).iterdir()]
    names = {identity.hex() for identity in known}
    problems += [f"files of no user: {path}" for path in folders if path.name not in names]
    if pending:
        problems.append(
            f"{len(pending)} deletions are under way, or ended before they were verified; "
            "`store check --finish` writes the file anew for them"
        )
    return Checked(users=len(users), messages=messages, problems=tuple(problems))


def _name(database: Database, identity: bytes, box: bytes) -> str:
    try:
        return open_box(database.vault.master, box, "name", identity.hex()).decode()
    except (NotOpened, UnicodeDecodeError):
        raise UserError(
            f"{database.path}: the name of a user is damaged ({identity.hex()}); restore the file "
            "from a copy"
        ) from None


def _sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
