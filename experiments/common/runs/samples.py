"""Sampled groups kept for the report: one conversation of a step with all its completions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common.files.json_rows import write_rows
from experiments.common.files.row_log import append_row, read_log
from gdpo_jax.errors import UserError
from gdpo_jax.training import StepSample

__all__ = ["keep_samples", "read_samples"]


def keep_samples(path: Path, *, every: int) -> Callable[[StepSample], None]:
    """A function for `on_step` of the training loop: appends the first group of every `every`-th
    step to a JSON Lines file (process 0 only).

    Rows of the first step it is given and later ones, left by a run that went on after its last
    checkpoint, are dropped, so that a resumed run has every step once. Raises `UserError` for a
    damaged file.
    """
    resumed = False

    def keep(sample: StepSample) -> None:
        nonlocal resumed
        if jax.process_index() != 0:
            return
        if not resumed and path.is_file():
            write_rows(path, [row for row in read_samples(path) if row["step"] < sample.step])
        resumed = True
        if sample.step % every == 0:
            append_row(path, _row(sample))

    return keep


def read_samples(path: Path) -> list[dict]:
    """The kept groups in order of step; of a step written twice the later one.

    Empty if the arm kept none. Raises UserError that names a damaged line.
    """
    rows = read_log(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("step"), int):
            raise UserError(f"{path}, line {number}: field 'step' is no number of a step")
    by_step = {row["step"]: row for row in rows}
    return [by_step[step] for step in sorted(by_step)]


def _row(sample: StepSample) -> dict[str, Any]:
    values, valid = np.asarray(sample.rewards.values[0]), np.asarray(sample.rewards.valid[0])
    group = len(values)
    return {
        "step": sample.step,
        "record": sample.records[0],
        "completions": [completion.text for completion in sample.completions[:group]],
        "rewards": {
            name: [_valid_entries(values[g, k], valid[g, k]) for g in range(group)]
            for k, name in enumerate(sample.rewards.names)
        },
        "advantages": np.asarray(sample.advantages[0]).round(5).tolist(),
    }


def _valid_entries(values: np.ndarray, valid: np.ndarray) -> Any:
    cells = [
        round(float(v), 5) if ok else None for v, ok in zip(values.reshape(-1), valid.reshape(-1))
    ]
    return cells if values.ndim else cells[0]
