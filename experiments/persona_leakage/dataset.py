"""The data set of a run: conversations, probes, and whom their writing is taken for.

Beside the rows lies a store with the conversations of enrolled users and the notes on each of them.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.persona_leakage.data.contents import contents
from experiments.persona_leakage.data.conversations import conversations
from experiments.persona_leakage.data.notes import notes_of
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.data.tfds_builder import (
    PersonaLeakage,
    check_absent,
    write_dataset,
)
from experiments.persona_leakage.data.users import User
from experiments.persona_leakage.recognition import recognise
from experiments.persona_leakage.store.conversations import (
    ConversationStore,
    open_store,
    read_store,
)
from experiments.persona_leakage.store.database import FILE
from experiments.persona_leakage.store.memory import keep_conversations, keep_notes
from gdpo_jax.errors import UserError

__all__ = ["has_store", "make_dataset", "stored_users"]

_STORE = "store"  # the folder's name, within the data set's own


def make_dataset(
    folder: Path, *, ordinary: int, of_each: int, sessions: int, writers: int, seed: int
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Writes the data set into the folder, whole or not at all; returns its rows.

    writers: on whom the verifier is fitted; the rest as of `contents`.

    Raises UserError where it is there already, and as `contents` and `recognise`.
    """
    check_absent(folder)  # before anything is fitted
    sizes = {"ordinary": ordinary, "of_each": of_each, "sessions": sessions}
    users = population(seed)
    rows = contents(users, **sizes, seed=seed)
    probes = rows["probes"]
    found = recognise(
        rows["exchanges"]["train"], probes["validation"], probes["test"], writers=writers, seed=seed
    )
    for split, taken_for in {"validation": found.validation, "test": found.test}.items():
        probes[split] = [
            {**row, "recognised": user} for row, user in zip(probes[split], taken_for, strict=True)
        ]
    scores = {"genuine": found.genuine, "impostor": found.impostor, "gate": found.gate}
    about = {"source": "own", "seed": seed, "sizes": {**sizes, "writers": writers}}

    def beside(built: Path) -> None:
        _keep(built / _STORE, enrolled(users), ordinary, seed)

    write_dataset(folder, rows, about={**about, "sessions": scores}, beside=beside)
    return rows


def has_store(folder: Path) -> bool:
    """Is there a store in this data set? Those of earlier versions have none."""
    return (_store_folder(folder) / FILE).is_file()


def stored_users(folder: Path) -> ConversationStore:
    """The store of a data set, for reading alone.

    Raises UserError for a data set without one, and as `read_store`.
    """
    if not has_store(folder):
        found = folder / PersonaLeakage.name
        raise UserError(
            f"{found} has no store of conversations, so an earlier version wrote it; delete it and "
            f"run `python -m experiments.persona_leakage data` again, with --data-dir {folder}"
        )
    return read_store(_store_folder(folder))


def _store_folder(folder: Path) -> Path:
    return folder / PersonaLeakage.name / _STORE


def _keep(folder: Path, users: Sequence[User], ordinary: int, seed: int) -> None:
    """Stores what every user said and was told, and the notes on him, each through his own handle.

    Strangers have nothing stored.
    """
    with contextlib.closing(open_store(folder)) as store:
        for user in users:
            own = store.user(user.id)
            keep_conversations(own, conversations([user], ordinary=ordinary, seed=seed))
            keep_notes(own, notes_of(user.marks))
