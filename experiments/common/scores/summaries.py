"""Metrics files: intervals per metric and split, every conversation, and how they are shown."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.common.files.json_rows import read_json
from experiments.common.scores.intervals import (
    Comparison,
    Interval,
    bootstrap_intervals,
    paired_comparison,
)
from experiments.saferec.evaluation.metrics import MetricTable
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside

METRIC_LABELS = {  # of "metric@K"
    "recall": "Recall",
    "ndcg": "NDCG",
    "svr": "SVR",
    "sdcg": "S-DCG",
    "count": "violations",
    "coverage": "oracle coverage",
}
LIST_LABELS = {  # of the whole list
    "list_length": "list length",
    "empty": "share without a list",
    "catalogue": "share of titles in the catalogue",
}


def summarize(
    table: MetricTable, *, samples: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """A JSON-ready summary: metrics with intervals, the same per split, and every conversation."""
    return {
        "num_conversations": len(table),
        "num_contexts": len(set(table.contexts)),
        "metrics": _intervals(table, samples=samples, level=level, seed=seed),
        "splits": {
            group: {
                label: {
                    "num_conversations": len(part),
                    "metrics": _intervals(part, samples=samples, level=level, seed=seed),
                }
                for label, part in table.split(group).items()
            }
            for group in table.groups
        },
        "conversations": {
            "sample_id": list(table.sample_ids),
            "context": _context_numbers(table),
            "groups": {name: list(labels) for name, labels in table.groups.items()},
            "values": {
                name: [finite(value) for value in column.tolist()]
                for name, column in table.values.items()
            },
        },
    }


def read_summary(path: Path) -> MetricTable:
    """The per-conversation table inside a metrics file, ready for a paired comparison."""
    value = read_json(path)
    try:
        stored = value["conversations"]
        return MetricTable(
            sample_ids=tuple(stored["sample_id"]),
            values={
                name: np.array([math.nan if v is None else v for v in column], dtype=np.float64)
                for name, column in stored["values"].items()
            },
            groups={name: tuple(labels) for name, labels in stored["groups"].items()},
            contexts=tuple(str(context) for context in stored["context"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no metrics file of this project: {error!r}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a reader sees the old file or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_beside(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def compare(
    baseline: MetricTable,
    table: MetricTable,
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, float | int | None]]:
    """JSON-ready `paired_comparison`: table minus baseline, interval and p value per metric."""
    return plain_comparison(
        paired_comparison(baseline, table, samples=samples, level=level, seed=seed)
    )


def plain_comparison(
    compared: Mapping[str, Comparison],
) -> dict[str, dict[str, float | int | None]]:
    """The comparison of every metric, JSON-ready."""
    return {name: plain(comparison) for name, comparison in compared.items()}


def print_summary(result: Mapping[str, Any], *, console: Console) -> None:
    """Prints the result of `evaluate_command` as tables that fit eighty columns."""
    metrics, ks = result["metrics"], result["k"]
    title = f"{result['num_conversations']} conversations, {result['convention']} convention"
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for k in ks:
        table.add_column(f"@{k}", justify="right")
    for prefix, label in METRIC_LABELS.items():
        if f"{prefix}@{ks[0]}" in metrics:
            table.add_row(label, *[_cell(metrics[f"{prefix}@{k}"]) for k in ks])
    console.print(table)
    for name, label in LIST_LABELS.items():
        if name in metrics:
            console.print(f"{label}: {_line(metrics[name])}", highlight=False)
    print_oracle(result, console=console)
    if "disclosure" in result["splits"]:
        console.print(_split_table(result["splits"]["disclosure"], _middle(ks)))
    if "comparison" in result:
        console.print(_comparison_table(result["comparison"], result["baseline"], _middle(ks)))
    if (metrics["empty"]["mean"] or 0.0) > 0.5 and not result.get("bare_lists"):
        console.print(
            "More than half of the outputs hold no list in a closed <solution> block; "
            "if they are plain lists, use --bare-lists.",
            style="yellow",
        )


def print_oracle(result: Mapping[str, Any], *, console: Console) -> None:
    """Says whose word on violations was taken, and what became of films it does not know."""
    oracle = f"oracle: {result['oracle']}; unknown films count as {result['unknown']}"
    console.print(oracle, highlight=False, markup=False)


def _split_table(parts: Mapping[str, Any], k: int) -> Table:
    table = Table(title="the sensitivity is", title_justify="left")
    table.add_column("")
    prefixes = [prefix for prefix in ("recall", "ndcg", "svr") if _has(parts, f"{prefix}@{k}")]
    for prefix in prefixes:
        table.add_column(f"{METRIC_LABELS[prefix]}@{k}", justify="right")
    for label, part in parts.items():
        cells = [_cell(part["metrics"][f"{prefix}@{k}"]) for prefix in prefixes]
        table.add_row(f"{label} ({part['num_conversations']})", *cells)
    return table


def _comparison_table(comparison: Mapping[str, Any], baseline: str, k: int) -> Table:
    table = Table(title=f"difference from {escape(baseline)}", title_justify="left")
    for column in ("metric", "difference", "p"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for prefix, label in METRIC_LABELS.items():
        if (entry := comparison.get(f"{prefix}@{k}")) is not None:
            p_value = "-" if entry["p_value"] is None else f"{entry['p_value']:.4f}"
            table.add_row(f"{label}@{k}", _cell(entry, center="difference"), p_value)
    return table


def _has(parts: Mapping[str, Any], name: str) -> bool:
    return all(name in part["metrics"] for part in parts.values())


def _middle(ks: list[int]) -> int:
    return 10 if 10 in ks else ks[-1]


def _cell(interval: Mapping[str, Any], *, center: str = "mean") -> str:
    if interval[center] is None:
        return "-"
    return f"{interval[center]:.4f}\n[dim]{interval['low']:.4f} to {interval['high']:.4f}[/dim]"


def _line(interval: Mapping[str, Any]) -> str:
    if interval["mean"] is None:
        return "-"
    return f"{interval['mean']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"


def _intervals(table: MetricTable, **options) -> dict[str, dict[str, float | int | None]]:
    return {
        name: plain(interval) for name, interval in bootstrap_intervals(table, **options).items()
    }


def plain(record: Interval | Comparison) -> dict[str, float | int | None]:
    """The fields of the record, JSON-ready: NaN becomes null."""
    return {
        name: finite(value) if isinstance(value, float) else value
        for name, value in dataclasses.asdict(record).items()
    }


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinities, which JSON lacks."""
    return value if math.isfinite(value) else None


def _context_numbers(table: MetricTable) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(context, len(numbers)) for context in table.contexts]


__all__ = [
    "LIST_LABELS",
    "METRIC_LABELS",
    "compare",
    "finite",
    "plain",
    "plain_comparison",
    "print_oracle",
    "print_summary",
    "read_summary",
    "summarize",
    "write_json",
]
