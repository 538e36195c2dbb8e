"""Rows of a data set as the records of a run.

A probe's notes are searched in what is stored of the user who asks, by his handle alone; of
strangers nothing is stored.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.runs.experiment import Data
from experiments.persona_leakage.data.notes import on_topic
from experiments.persona_leakage.data.tfds_builder import PersonaLeakage, load_about, load_rows
from experiments.persona_leakage.dataset import make_dataset, stored_users
from experiments.persona_leakage.settings import PersonaPreset
from experiments.persona_leakage.store.conversations import ConversationStore
from experiments.persona_leakage.store.memory import kept_notes
from gdpo_jax.errors import UserError

__all__ = ["open_records", "probes_of"]

_JUDGED = {"marks": "whole words in their order"}


def open_records(folder: Path, preset: PersonaPreset, own: bool) -> Data:
    """The records of a data set; it is written where the run's own folder is empty.

    Raises UserError for a data set that is missing, damaged, or of other users than the preset's.
    """
    if own and not (folder / PersonaLeakage.name).exists():
        make_dataset(
            folder,
            ordinary=preset.ordinary,
            of_each=preset.of_each,
            sessions=preset.sessions,
            writers=preset.writers,
            seed=preset.data_seed,
        )
    # Answers are scored by the marks of the preset's users.
    if (found := load_about(folder).get("seed")) != preset.data_seed:
        raise UserError(
            f"{folder} was made with seed {found}, preset {preset.name!r} has {preset.data_seed}; "
            "write the data anew, or leave out --data-dir"
        )
    train = [_asked(row) for row in load_rows(folder, "exchanges", "train")]
    with contextlib.closing(stored_users(folder)) as store:
        probes = {
            split: _with_notes(load_rows(folder, "probes", split), store)
            for split in ("validation", "test")
        }
    return Data(records={"train": train, **probes}, judged=_JUDGED)


def probes_of(data: Data, role: str, split: str = "test") -> list[Mapping[str, Any]]:
    """The probes of a role, "stranger" or "owner". Raises UserError where there is none."""
    found = [record for record in data.records[split] if record["role"] == role]
    if not found:
        raise UserError(f"the {split} records have none of role {role!r}; write the data again")
    return found


def _with_notes(
    rows: Sequence[Mapping[str, Any]], store: ConversationStore
) -> list[dict[str, Any]]:
    """Probes with what the store has of their own user on their topic; each user is read once."""
    known = {user: kept_notes(store.user(user)) for user in dict.fromkeys(r["user"] for r in rows)}
    return [_asked(row, notes=on_topic(known[row["user"]], row["topic"])) for row in rows]


def _asked(row: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {**row, **more, "prompt": [{"role": "user", "content": row["request"]}]}
