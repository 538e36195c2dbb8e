"""Scores as JSON: intervals per metric and split, and the value of every item to compare later.

The keys of the file are those of its first version, in which all items were conversations:
`conversations` holds the table, `sample_id` the ids and `context` the clusters.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.files.json_rows import read_json
from experiments.common.scores.comparisons import Comparison
from experiments.common.scores.intervals import Interval, mean_intervals
from experiments.common.scores.metric import Metric
from experiments.common.scores.table import Table
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside

PlainRecord = dict[str, float | int | None]


def summarize(
    table: Table,
    metrics: tuple[Metric, ...] = (),
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """A JSON-ready summary: metrics with intervals, the same per split, and every item."""

    def intervals(part: Table) -> dict[str, PlainRecord]:
        found = mean_intervals(part, metrics, samples=samples, level=level, seed=seed)
        return {name: plain(interval) for name, interval in found.items()}

    return {
        "num_conversations": len(table),
        "num_contexts": len(set(table.clusters)),
        "metrics": intervals(table),
        "splits": {
            group: {
                label: {"num_conversations": len(part), "metrics": intervals(part)}
                for label, part in table.split(group).items()
            }
            for group in table.groups
        },
        "conversations": {
            "sample_id": list(table.ids),
            "context": _numbers(table.clusters),
            "groups": {name: list(labels) for name, labels in table.groups.items()},
            "values": {
                name: [finite(value) for value in column.tolist()]
                for name, column in table.values.items()
            },
        },
    }


def read_summary(path: Path) -> Table:
    """The table inside a file of `summarize`, ready for a paired comparison.

    Raises UserError that names a file that holds none.
    """
    value = read_json(path)
    try:
        stored = value["conversations"]
        return Table(
            ids=tuple(stored["sample_id"]),
            values={
                name: np.array([math.nan if v is None else v for v in column], dtype=np.float64)
                for name, column in stored["values"].items()
            },
            groups={name: tuple(labels) for name, labels in stored["groups"].items()},
            clusters=tuple(str(context) for context in stored["context"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no metrics file of this project: {error!r}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a reader sees the old file or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_beside(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def plain(record: Interval | Comparison) -> PlainRecord:
    """The fields of the record, JSON-ready: NaN becomes null."""
    return {
        name: finite(value) if isinstance(value, float) else value
        for name, value in dataclasses.asdict(record).items()
    }


def finite(value: float | None) -> float | None:
    """The number, or None for NaN and infinities, which JSON lacks."""
    return value if value is not None and math.isfinite(value) else None


def _numbers(clusters: tuple[str, ...]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in clusters]


__all__ = ["PlainRecord", "finite", "plain", "read_summary", "summarize", "write_json"]
