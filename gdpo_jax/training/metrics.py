"""Metrics on disk: one JSON object per step in `metrics.jsonl`, and the same for TensorBoard."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from tensorboardX import FileWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from gdpo_jax.errors import UserError


class MetricWriter:
    """Appends rows to `workdir/metrics.jsonl` and `workdir/tensorboard`; on process 0 only.

    Rows of `start_step` and later, left by a run that went on after its last checkpoint, are
    dropped, so that a resumed run has every step once.
    """

    def __init__(self, workdir: str | Path, *, start_step: int = 0):
        self._file = None
        self._board = None
        if jax.process_index() != 0:
            return
        workdir = Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "metrics.jsonl"
        drop_rows(path, start_step)
        self._file = path.open("a", encoding="utf-8")
        self._board = FileWriter(str(workdir / "tensorboard"))
        # What an earlier session of the run wrote of these steps counts no more.
        self._board.add_event(
            Event(step=start_step, session_log=SessionLog(status=SessionLog.START))
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row; values that are not finite become null, and no point on the board."""
        if self._file is None or self._board is None:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()
        # One event a step: its queue is short, and waiting for it held up the next step.
        points = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in finite.items()
            if value is not None
        ]
        self._board.add_summary(Summary(value=points), step)

    def close(self) -> None:
        if self._file is not None and self._board is not None:
            self._file.close()
            self._board.close()


def drop_rows(path: Path, start_step: int) -> None:
    """Keep the rows of `path` before `start_step`, and drop a last line that was cut while written.

    Raises:
        UserError: another line is not a JSON object with a step; names the line.
    """
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    kept = []
    for number, line in enumerate(lines, start=1):
        try:
            step = json.loads(line)["step"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{path}, line {number}: not a JSON object with a step") from error
        if step < start_step:
            kept.append(line)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept), encoding="utf-8")
    os.replace(partial, path)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
