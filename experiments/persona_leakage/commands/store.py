"""`store`: conversations of users in a folder, each apart from the others."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg, subcommand

from experiments.common.files.json_rows import write_rows
from experiments.persona_leakage.data.logs import read_logs, write_logs
from experiments.persona_leakage.isolation import curve, isolated
from experiments.persona_leakage.learning.adapter_folders import forget
from experiments.persona_leakage.measures.strength import Strength, read_strengths
from experiments.persona_leakage.store.conversations import (
    ConversationStore,
    UserStore,
    open_store,
    read_store,
)
from experiments.persona_leakage.store.database import FILE
from experiments.persona_leakage.store.deletion import finish_deletions
from experiments.persona_leakage.store.keys import read_key, write_new_key
from experiments.persona_leakage.store.memory import keep_conversations, kept_conversations
from experiments.persona_leakage.store.overview import Cost, check, costs
from gdpo_jax.errors import UserError

__all__ = ["store"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Place:
    store: Annotated[Path, arg(help="The store's folder.")] = Path("runs/store")
    key_file: Annotated[
        Path | None, arg(help="File of the master key, where the store is encrypted.")
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
    """Append the conversations of a log, each user's to his own; what is there stays as it is."""

    log: Annotated[Positional[Path], arg(help="JSON Lines, a conversation a row (data/logs.py).")]
    place: Annotated[_Place, arg(name="")] = _Place()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Users:
    """List users with their messages and what they cost in bytes."""

    place: Annotated[_Place, arg(name="")] = _Place()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write all that is stored of one user as JSON Lines."""

    user: Annotated[Positional[str], arg(help="The user.")]
    out: Annotated[Path, arg(help="File to write, readable by its owner alone.")]
    place: Annotated[_Place, arg(name="")] = _Place()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delete:
    """Delete all that is stored of one user, and search the files for what is left of it."""

    user: Annotated[Positional[str], arg(help="The user.")]
    runs: Annotated[
        tuple[Path, ...], arg(help="Run folders: his adapters in all their arms go as well.")
    ] = ()
    place: Annotated[_Place, arg(name="")] = _Place()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """Print what selective isolation costs and leaves at every threshold of strength."""

    strengths: Annotated[
        Positional[Path],
        arg(
            help="JSON Lines with `user`, `strength` (KL per token, or recall minus base rate) "
            "and, where it was measured, `leakage`."
        ),
    ]
    gammas: Annotated[
        tuple[float, ...], arg(help="Thresholds; all that change something unless given.")
    ] = ()
    place: Annotated[_Place, arg(name="")] = _Place()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """Write the conversations of all users who are not isolated as one log, to be learnt from."""

    strengths: Annotated[
        Positional[Path], arg(help="As of `store curve`; who is not in it stays isolated.")
    ]
    gamma: Annotated[float, arg(help="Whose strength is above it is isolated; 0 isolates all.")]
    out: Annotated[Path, arg(help="File to write: JSON Lines, a conversation a row.")]
    place: Annotated[_Place, arg(name="")] = _Place()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """Read all of the store and tell what is damaged, or out of its place."""

    finish: Annotated[
        bool, arg(help="First write the file anew for deletions that were not verified.")
    ] = False
    place: Annotated[_Place, arg(name="")] = _Place()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
    """Write a new master key to a file; without it nobody can read what it encrypts."""

    file: Annotated[Positional[Path], arg(help="File to write.")]


Action: TypeAlias = (
    Annotated[Import, subcommand("import")]
    | Annotated[Users, subcommand("users")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Delete, subcommand("delete")]
    | Annotated[Curve, subcommand("curve")]
    | Annotated[Pool, subcommand("pool")]
    | Annotated[Check, subcommand("check")]
    | Annotated[Key, subcommand("key")]
)


def store(action: Annotated[Action, arg(name="")]) -> None:
    """Keep conversations of users, each apart from the others (see `store ACTION --help`)."""
    if isinstance(action, Key):
        write_new_key(action.file)
        _say(f"{action.file}: a new master key; keep a copy of it")
        return
    todo = {
        Import: _import,
        Users: _users,
        Export: _export,
        Delete: _delete,
        Curve: _curve,
        Pool: _pool,
        Check: _check,
    }
    todo[type(action)](action)


def _import(action: Import) -> None:
    found = read_logs(action.log)
    with _writing(action.place, new=True) as store:
        new = sum(
            keep_conversations(store.user(conversation.user), [conversation])
            for conversation in found
        )
    told = sum(2 * len(conversation.exchanges) for conversation in found)
    _say(f"{action.place.store}: {new} new messages, {told - new} were there already")


def _users(action: Users) -> None:
    with _reading(action.place) as store:
        found = costs(store)
    table = Table(*(field.name for field in dataclasses.fields(Cost)))
    for cost in found:
        table.add_row(*map(str, dataclasses.astuple(cost)))
    Console().print(table)
    size = sum(path.stat().st_size for path in action.place.store.rglob("*") if path.is_file())
    messages = sum(cost.messages for cost in found)
    _say(f"{len(found)} users, {messages} messages; the folder has {size} bytes")


def _export(action: Export) -> None:
    with _reading(action.place) as store:
        rows = _known(store, action.user).export()
    with _private():
        write_rows(action.out, rows)
    _say(f"{action.out}: {len(rows)} rows")


def _delete(action: Delete) -> None:
    for run in action.runs:
        if not (run / "preset.json").is_file():
            raise UserError(f"--runs {run}: no run folder (no preset.json in it)")
    with _writing(action.place) as store:
        own = _known(store, action.user)
        # Before what the store has: a command that is stopped finds the user again.
        for run in action.runs:
            _say(f"{run}: {_forget_adapters(run, action.user)} adapters deleted")
        done = own.delete()
    size = sum(done.searched.values())
    rebuilt = "; the file was written anew" if done.rebuilt else ""
    _say(
        f"{action.user}: {done.messages} messages, {done.artefacts} artefacts and {done.files} "
        f"files deleted{rebuilt}"
    )
    _say(
        f"no trace in {len(done.searched)} files of {size} bytes ({', '.join(done.searched)}): "
        f"looked for {done.words} pieces of 16 bytes, of which others have {done.shared} as well"
    )


def _forget_adapters(run: Path, user: str) -> int:
    arms = sorted({path.parent for path in run.glob("seed-*/*/adapters")})
    return sum(forget(arm, user) for arm in arms)


def _curve(action: Curve) -> None:
    rows = read_strengths(action.strengths)
    with _reading(action.place) as store:
        sizes = {cost.user: cost.bytes for cost in costs(store)}
    _check_known(action, rows, sizes)
    found = curve(
        [one.strength for one in rows],
        [sizes[one.user] for one in rows],
        [one.leakage for one in rows],
        action.gammas or None,
    )
    table = Table("gamma", "isolated", "bytes", "leakage of the rest", "of all users")
    for gamma, share, size, rest, total in zip(
        found.gammas, found.share, found.storage, found.rest, found.total
    ):
        table.add_row(f"{gamma:g}", f"{share:.3f}", f"{size:.0f}", _rate(rest), _rate(total))
    Console().print(table)


def _pool(action: Pool) -> None:
    rows = read_strengths(action.strengths)
    apart = isolated([one.strength for one in rows], action.gamma)
    with _reading(action.place) as store:
        users = [cost.user for cost in costs(store)]
        _check_known(action, rows, users)
        # Whose strength nobody measured stays apart: what is pooled has passed the gate.
        passed = sorted(one.user for one, alone in zip(rows, apart) if not alone)
        found = [one for user in passed for one in kept_conversations(store.user(user))]
    with _private():
        write_logs(action.out, found)
    _say(
        f"{action.out}: {len(found)} conversations of {len(passed)} users; {len(users)} are in the "
        f"store, and {len(users) - len(passed)} stay isolated"
    )


@contextlib.contextmanager
def _private() -> Iterator[None]:
    """New files are their owner's alone: what users said is not for all on the machine."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _check_known(action: Curve | Pool, rows: Sequence[Strength], users: Container[str]) -> None:
    for one in rows:
        if one.user not in users:
            raise UserError(
                f"{action.strengths}: user {one.user!r} is not in {action.place.store}; give the "
                "store whose users were measured"
            )


def _check(action: Check) -> None:
    with _writing(action.place) as store:
        if action.finish:
            _say(f"{finish_deletions(store.database)} deletions verified")
        found = check(store)
    if found.problems:
        raise UserError("\n".join((f"{action.place.store} has problems:", *found.problems)))
    _say(f"{action.place.store} is whole: {found.users} users, {found.messages} messages")


def _reading(place: _Place) -> contextlib.closing[ConversationStore]:
    _check_there(place)
    return contextlib.closing(read_store(place.store, _key(place)))


def _writing(place: _Place, *, new: bool = False) -> contextlib.closing[ConversationStore]:
    if not new:
        _check_there(place)
    return contextlib.closing(open_store(place.store, _key(place)))


def _check_there(place: _Place) -> None:
    if not (place.store / FILE).is_file():
        raise UserError(f"no store in {place.store}; `store import` makes one, or give --store")


def _key(place: _Place) -> bytes | None:
    return None if place.key_file is None else read_key(place.key_file)


def _known(store: ConversationStore, user: str) -> UserStore:
    handle = store.user(user)
    if not handle.exists():
        raise UserError(f"no user {user!r} in {store.database.folder}; `store users` lists them")
    return handle


def _rate(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _say(line: str) -> None:
    Console(soft_wrap=True).print(line, highlight=False, markup=False)
