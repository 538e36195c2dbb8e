"""Sampled groups kept for the report: one conversation of a step with all its completions."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common.files.json_rows import read_rows
from gdpo_jax.training import StepSample

__all__ = ["SampleWriter", "read_samples"]


class SampleWriter:
    """Appends the first group of every `every`-th step to a JSON Lines file (process 0 only)."""

    def __init__(self, path: Path, *, every: int):
        self._path, self._every = path, every

    def __enter__(self) -> "SampleWriter":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        del error

    def write(self, sample: StepSample) -> None:
        """To be given to the training loop as `on_step`."""
        if sample.step % self._every or jax.process_index() != 0:
            return
        values, valid = np.asarray(sample.rewards.values[0]), np.asarray(sample.rewards.valid[0])
        group = len(values)
        row = {
            "step": sample.step,
            "record": sample.records[0],
            "completions": [completion.text for completion in sample.completions[:group]],
            "rewards": {
                name: [_finite(values[g, k], valid[g, k]) for g in range(group)]
                for k, name in enumerate(sample.rewards.names)
            },
            "advantages": np.asarray(sample.advantages[0]).round(5).tolist(),
        }
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read_samples(path: Path) -> list[dict]:
    """The kept groups in order of step; of a step written twice (after a resume) the later one.

    Empty if the arm kept none. Raises UserError that names a damaged line.
    """
    if not path.is_file() or not path.stat().st_size:
        return []
    by_step = {row["step"]: row for row in read_rows(path)}
    return [by_step[step] for step in sorted(by_step)]


def _finite(values: np.ndarray, valid: np.ndarray) -> Any:
    cells = [
        round(float(v), 5) if ok else None for v, ok in zip(values.reshape(-1), valid.reshape(-1))
    ]
    return cells if values.ndim else cells[0]
