"""What an arm keeps of users besides the shared parameters, and how long it was trained."""

import statistics
from pathlib import Path

from experiments.common.report.runs import Run, Trained
from experiments.persona_leakage.answering import Gated, Remembered
from experiments.persona_leakage.arms import ARMS
from experiments.persona_leakage.data.marks import note
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.data.tfds_builder import load_rows
from experiments.persona_leakage.learning.adapters import PerUserAdapters

__all__ = ["sizes", "training_seconds"]

_UNITS = ("B", "kB", "MB", "GB")


def sizes(run: Run, name: str) -> str | None:
    """What is kept of an enrolled user on the average, in words; None of an unknown arm.

    Notes are those of all his marks, an enrolment is counted as the texts that it is made from, and
    adapters as they lie on disk. Raises UserError for data that are damaged.
    """
    arm = next((one for one in ARMS if one.name == name), None)
    if arm is None:
        return None
    seed = run.preset.get("data_seed", 0)
    users = enrolled(population(seed if isinstance(seed, int) else 0))
    parts = []
    if isinstance(arm.answer, Remembered):
        noted = [len(note(mark).encode()) for user in users for mark in user.marks]
        parts.append(f"notes {_bytes(sum(noted) / len(users))}")
    verified = isinstance(arm.answer, Gated) or getattr(arm.answer, "verified", False)
    if verified and run.data_dir is not None:
        rows = load_rows(run.data_dir, "exchanges", "train")
        written = sum(len(row["request"].encode()) for row in rows)
        parts.append(f"texts of enrolment {_bytes(written / len(users))}")
    if isinstance(arm.stage, PerUserAdapters):
        folders = run.path.glob(f"seed-*/{name}/adapters/*")
        found = [_folder_bytes(folder) for folder in folders if folder.is_dir()]
        if found:
            parts.append(f"an adapter of {_bytes(statistics.fmean(found))}")
    return (", ".join(parts) + " a user") if parts else "nothing"


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


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _bytes(count: float) -> str:
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"
