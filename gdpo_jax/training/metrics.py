"""Metrics on disk: one JSON object per step in `metrics.jsonl`, and the same for TensorBoard."""

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from tensorboardX import FileWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside

__all__ = ["MetricWriter", "drop_rows", "read_metrics"]


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
    lines = _whole_lines(path)
    kept = [line for line, row in lines if row["step"] < start_step]
    write_beside(path, "".join(f"{line}\n" for line in kept))


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, without a last line that is still being written or was cut.

    Raises:
        UserError: there is no such file, or another line is not a JSON object with a step; names
            the line.
    """
    return [row for _, row in _whole_lines(Path(path))]


def _whole_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each line with what it holds."""
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append((line.decode(), _row(line)))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not a JSON object with a step") from error
    with contextlib.suppress(ValueError):
        # Complete but for its end, as an editor may leave it.
        rows.append((last.decode(), _row(last)))
    return rows


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        raise ValueError("not a JSON object with a step")
    return row
