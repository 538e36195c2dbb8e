"""What an arm keeps of users besides the shared parameters, and how long it was trained."""

import contextlib
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common.report.runs import Run, Trained
from experiments.common.runs.arms import way_to
from experiments.common.scores.summaries import finite
from experiments.persona_leakage.answering import Gated, Remembered
from experiments.persona_leakage.arms import ARMS, PARTNERS
from experiments.persona_leakage.data.tfds_builder import load_rows
from experiments.persona_leakage.dataset import has_store, stored_users
from experiments.persona_leakage.learning.adapted import Adapted
from experiments.persona_leakage.learning.adapters import PerUserAdapters
from experiments.persona_leakage.store.overview import Cost, costs

__all__ = ["COSTS_FILE", "costs_of", "in_words", "kept", "stored_costs", "training_seconds"]

COSTS_FILE = "costs.json"
_UNITS = ("B", "kB", "MB", "GB")


def costs_of(run: Run) -> dict[str, Any]:
    """Every arm but the partners: bytes that it keeps of an enrolled user on the average, of what,
    and seconds of training, mean over seeds; None where that is unknown. JSON values.

    Raises UserError for data that are damaged.
    """
    arms = {}
    for arm in run.arms:
        name = arm.result.name
        if name in PARTNERS.values():
            continue
        parts, seconds = kept(run, name), training_seconds(arm)
        arms[name] = {
            "stored_bytes": None if parts is None else sum(parts.values()),
            "of": None if parts is None else dict(parts),
            "training_seconds": finite(seconds),
        }
    return {"arms": arms}


def kept(run: Run, name: str) -> Mapping[str, float] | None:
    """Bytes of an enrolled user on the average by what they are; None where that is unknown.

    Of arms that read the store it is what the store has, in which the texts of an enrolment stand
    as well; elsewhere these are counted as they are, and adapters as they lie on disk. Raises
    UserError for data that are damaged.
    """
    arm = next((one for one in ARMS if one.name == name), None)
    if arm is None:
        return None
    if isinstance(arm.answer, Remembered):
        found = stored_costs(run)
        return None if not found else _of_store(found)
    parts = {}
    if isinstance(arm.answer, Adapted):
        trained = next(one.name for one in way_to(ARMS, arm, published=False)
                       if isinstance(one.stage, PerUserAdapters))  # fmt: skip
        folders = [path for path in run.path.glob(f"seed-*/{trained}/adapters/*") if path.is_dir()]
        if not folders:
            return None
        parts["adapter"] = statistics.fmean(map(_folder_bytes, folders))
    if isinstance(arm.answer, Gated) or getattr(arm.answer, "verified", False):
        if run.data_dir is None:
            return None
        parts["texts of enrolment"] = _enrolment(run.data_dir)
    return parts


def stored_costs(run: Run) -> list[Cost]:
    """What the store of the run's data has of every user; empty where there is no store.

    Raises UserError for a store that is damaged.
    """
    if run.data_dir is None or not has_store(run.data_dir):
        return []
    with contextlib.closing(stored_users(run.data_dir)) as store:
        return costs(store)


def in_words(parts: Mapping[str, float] | None) -> str:
    """Such as "notes 1.2 kB a user"; "-" where it is unknown."""
    if parts is None:
        return "-"
    named = ", ".join(f"{what} {_bytes(count)}" for what, count in parts.items())
    return f"{named} a user" if named else "nothing"


def training_seconds(arm: Trained) -> float | None:
    """The median time of a recorded step times the steps, mean over seeds; None without times.

    The first step compiles, and not all steps are recorded.
    """
    times = []
    for rows in arm.rows.values():
        steps = [row["time/step_seconds"] for row in rows if "time/step_seconds" in row]
        if steps:
            times.append(statistics.median(steps) * (rows[-1]["step"] + 1))
    return statistics.fmean(times) if times else None


def _of_store(found: list[Cost]) -> dict[str, float]:
    parts = {
        "conversations": statistics.fmean(cost.message_bytes for cost in found),
        "notes": statistics.fmean(cost.artefact_bytes for cost in found),
        "files": statistics.fmean(cost.file_bytes for cost in found),
    }
    parts["name and key"] = statistics.fmean(cost.bytes for cost in found) - sum(parts.values())
    return {what: count for what, count in parts.items() if count}


def _enrolment(data_dir: Path) -> float:
    rows = load_rows(data_dir, "exchanges", "train")
    users = {row["user"] for row in rows}
    return sum(len(row["request"].encode()) for row in rows) / len(users)


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _bytes(count: float) -> str:
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"
