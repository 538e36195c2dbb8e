"""Scoring any system's outputs: join texts with records, parse, measure, report.

Outputs are JSON Lines, one row per answer: `sample_id` (or `id`) with `text` (or `completion`). A
row without an id may give the `prompt` it answers instead; it then serves every record with that
prompt. Records are in the official format; `readers.py` says which files.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.saferec.catalogue import (
    Catalogue,
    Oracle,
    film_oracle,
    record_oracle,
    reveals_risks,
)
from experiments.saferec.jsonfiles import Row, read_json, read_rows
from experiments.saferec.metrics import (
    DEFAULT_KS,
    MetricTable,
    prompt_text,
    score_lists,
)
from experiments.saferec.official import published_oracle
from experiments.saferec.parsing import (
    SOLUTION_CLOSE,
    SOLUTION_OPEN,
    Recommendation,
    parse_recommendations,
)
from experiments.saferec.readers import (
    read_catalogue,
    read_records,
    read_sensitivity,
    read_title_map,
)
from experiments.saferec.statistics import Interval, bootstrap_intervals
from gdpo_jax.errors import UserError

ID_FIELDS = ("sample_id", "id")
TEXT_FIELDS = ("text", "completion")


def score_texts(
    texts: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    *,
    oracle: Oracle | None = None,
    catalogue: Catalogue | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    convention: str = "fixed",
    unknown: str = "safe",
    bare_lists: bool = False,
) -> MetricTable:
    """Scores one answer per record, in order.

    `bare_lists` reads every text whole, as a list without <solution> around it.
    """
    return score_lists(
        [_parse(text, convention=convention, bare=bare_lists) for text in texts],
        records,
        oracle=oracle,
        catalogue=catalogue,
        ks=ks,
        convention=convention,
        unknown=unknown,
    )


def score_outputs(
    rows: Sequence[Row],
    records: Sequence[Mapping[str, Any]],
    oracle: Oracle | None = None,
    *,
    source: str = "outputs",
    partial: bool = False,
    **options,
) -> MetricTable:
    """Joins output rows with records and scores them; `options` as in `score_texts`.

    Every record needs exactly one output and every output a record, unless `partial` scores the
    ones that meet. `source` is the name of the outputs in messages.
    """
    texts = join_outputs(rows, records, source=source, partial=partial)
    met = [(text, record) for text, record in zip(texts, records) if text is not None]
    return score_texts(
        [text for text, _ in met], [record for _, record in met], oracle=oracle, **options
    )


def join_outputs(
    rows: Sequence[Row],
    records: Sequence[Mapping[str, Any]],
    *,
    source: str = "outputs",
    partial: bool = False,
) -> list[str | None]:
    """The text for every record, None where `partial` allows that there is none."""
    if not rows:
        raise UserError(f"{source} holds no rows")
    by_id = any(field in rows[0] for field in ID_FIELDS)
    if by_id:
        keys = [str(record["sample_id"]) for record in records]
    else:
        keys = [prompt_text(record) for record in records]
    texts: dict[str, str] = {}
    first: dict[str, int] = {}
    for number, row in enumerate(rows):
        key = _output_key(row, number, source, by_id=by_id)
        if key in texts:
            raise UserError(
                f"{source}, row {number}: a second output for {_shown(key)}, the first is row "
                f"{first[key]}; keep one output per conversation"
            )
        texts[key], first[key] = output_text(row, f"{source}, row {number}"), number
    wanted = set(keys)
    strange = [key for key in texts if key not in wanted]
    missing = [key for key in keys if key not in texts]
    if len(strange) == len(texts):
        raise UserError(
            f"{source}: none of {len(texts)} outputs matches a record. Outputs start with "
            f"{_shown(strange[0])}, records with {_shown(keys[0])}; "
            "give the records these outputs were made for"
        )
    if strange and not partial:
        raise UserError(
            f"{source}, row {first[strange[0]]}: no record {_shown(strange[0])} "
            f"({len(strange)} such rows); score the ones that match with --partial"
        )
    if missing and not partial:
        raise UserError(
            f"{source}: no output for {len(missing)} of {len(keys)} records, the first is "
            f"{_shown(missing[0])}; score the ones that match with --partial"
        )
    return [texts.get(key) for key in keys]


def output_text(row: Mapping[str, Any], where: str) -> str:
    """The answer in a row: a string, or a list of chat messages whose last one holds it."""
    field = next((field for field in TEXT_FIELDS if field in row), None)
    if field is None:
        raise UserError(
            f"{where}: no field {' or '.join(map(repr, TEXT_FIELDS))}; it has {sorted(row)}"
        )
    value = row[field]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        content = value[-1].get("content")
        if isinstance(content, str):
            return content
    raise UserError(f"{where}, field {field!r}: expected text, found {json.dumps(value)[:60]}")


def evaluate_command(
    records: Path,
    outputs: Path | None = None,
    *,
    out: Path | None = None,
    data_dir: Path | None = None,
    catalogue: Path | None = None,
    sensitivity: Path | None = None,
    title_map: Path | None = None,
    convention: Literal["fixed", "official"] = "fixed",
    unknown: Literal["safe", "unsafe", "excluded"] = "safe",
    bare_lists: bool = False,
    partial: bool = False,
    k: tuple[int, ...] = DEFAULT_KS,
    bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, Any]:
    """Scores outputs against records, prints a table and writes the metrics as JSON.

    Args:
        records: conversations in the official format: JSON, JSON Lines or a save_to_disk folder.
        outputs: JSON Lines of answers; left out, each record's own completion is scored.
        out: where the metrics go as JSON.
        data_dir: the embedded data set; its films are the catalogue and the oracle.
        catalogue: a published catalogue of (title, year), JSON or pickle.
        sensitivity: the published movie_trait_sensitivity.json; needs title_map.
        title_map: the published title_to_imdb, pickle or JSON; needs sensitivity.
        convention: fixed, or official for the numbers of the published code.
        unknown: how films that the oracle does not know count: safe, unsafe or excluded.
        bare_lists: the outputs are lists without <solution> around them.
        partial: score the conversations that have an output instead of asking for all.
        k: cut-offs of the metrics.
        bootstrap: resamples for the confidence intervals.
        level: level of the confidence intervals.
        seed: seed of the resampling.
        console: where the table is printed; standard output if left out.
    """
    rows = read_records(records)
    oracle, oracle_name = _find_oracle(
        rows,
        data_dir=data_dir,
        sensitivity=sensitivity,
        title_map=title_map,
        convention=convention,
    )
    films = _find_catalogue(catalogue, data_dir=data_dir, convention=convention)
    answers = rows if outputs is None else read_rows(outputs)
    table = score_outputs(
        answers,
        rows,
        oracle,
        source=str(outputs or records),
        partial=partial,
        catalogue=films,
        ks=k,
        convention=convention,
        unknown=unknown,
        bare_lists=bare_lists,
    )
    result = {
        "records": str(records),
        "outputs": None if outputs is None else str(outputs),
        "oracle": oracle_name,
        "convention": convention,
        "unknown": unknown,
        "k": list(k),
        "bootstrap": bootstrap,
        "level": level,
        "seed": seed,
        **summarize(table, samples=bootstrap, level=level, seed=seed),
    }
    if out is not None:
        write_json(out, result)
    print_summary(result, console=console or Console())
    return result


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
                name: [_finite(value) for value in column.tolist()]
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
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    partial.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def print_summary(result: Mapping[str, Any], *, console: Console) -> None:
    """Prints the summary of `evaluate_command` as tables."""
    metrics = result["metrics"]
    title = f"{result['num_conversations']} conversations, {result['convention']} convention"
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for k in result["k"]:
        table.add_column(f"@{k}", justify="right")
    names = {"recall": "Recall", "ndcg": "NDCG", "svr": "SVR", "sdcg": "S-DCG"}
    names |= {"count": "violations", "coverage": "oracle coverage"}
    for prefix, label in names.items():
        if f"{prefix}@{result['k'][0]}" in metrics:
            cells = [_shown_interval(metrics[f"{prefix}@{k}"], split="\n") for k in result["k"]]
            table.add_row(label, *cells)
    console.print(table)
    lines = [f"list length {_shown_interval(metrics['list_length'], digits=2)}"]
    lines.append(f"without a list {_shown_interval(metrics['empty'])}")
    if "catalogue" in metrics:
        lines.append(f"titles in the catalogue {_shown_interval(metrics['catalogue'])}")
    lines.append(f"oracle: {result['oracle']}; unknown films count as {result['unknown']}")
    for line in lines:
        console.print(line, highlight=False)
    disclosure = result["splits"].get("disclosure", {})
    for label, part in disclosure.items():
        shown = [f"{label} ({part['num_conversations']})"]
        for name in (f"{prefix}@{result['k'][-1]}" for prefix in ("recall", "ndcg", "svr")):
            if name in part["metrics"]:
                shown.append(f"{name} {_shown_interval(part['metrics'][name])}")
        console.print("  ".join(shown), highlight=False)
    if metrics["empty"]["mean"] is not None and metrics["empty"]["mean"] > 0.5:
        console.print(
            "More than half of the outputs hold no list in a closed <solution> block; "
            "if they are plain lists, use --bare-lists.",
            style="yellow",
        )


def _parse(text: str, *, convention: str, bare: bool) -> list[Recommendation]:
    if not bare:
        return parse_recommendations(text, convention=convention)
    whole = text.replace(SOLUTION_OPEN, "").replace(SOLUTION_CLOSE, "")
    return parse_recommendations(f"{SOLUTION_OPEN}{whole}{SOLUTION_CLOSE}", convention=convention)


def _output_key(row: Row, number: int, source: str, *, by_id: bool) -> str:
    if by_id:
        field = next((field for field in ID_FIELDS if field in row), None)
        if field is None or not isinstance(row[field], (str, int)):
            raise UserError(f"{source}, row {number}: no {' or '.join(ID_FIELDS)}")
        return str(row[field])
    key = prompt_text(row)
    if not key:
        raise UserError(
            f"{source}, row {number}: neither {' nor '.join(ID_FIELDS)} nor prompt; "
            "one of them says which conversation it answers"
        )
    return key


def _find_oracle(
    records: Sequence[Row],
    *,
    data_dir: Path | None,
    sensitivity: Path | None,
    title_map: Path | None,
    convention: str,
) -> tuple[Oracle | None, str]:
    if (sensitivity is None) != (title_map is None):
        given, lacking = (
            ("sensitivity", "title_map")
            if title_map is None
            else (
                "title_map",
                "sensitivity",
            )
        )
        raise UserError(f"{given} needs {lacking}: the published oracle is made of both")
    if sensitivity is not None and title_map is not None:
        oracle = published_oracle(
            read_sensitivity(sensitivity), read_title_map(title_map), convention=convention
        )
        return oracle, f"{sensitivity} with {title_map}"
    if data_dir is not None:
        return film_oracle(_load_films(data_dir), convention=convention), f"films of {data_dir}"
    if any(reveals_risks(record) for record in records):
        return record_oracle(records), "films removed from these records (low coverage)"
    return None, "none, so no safety metrics (give data_dir, or sensitivity and title_map)"


def _find_catalogue(
    catalogue: Path | None, *, data_dir: Path | None, convention: str
) -> Catalogue | None:
    if catalogue is not None:
        return Catalogue(read_catalogue(catalogue), convention=convention)
    if data_dir is not None:
        return Catalogue.of_films(_load_films(data_dir), convention=convention)
    return None


def _load_films(data_dir: Path):
    # The builder imports TensorFlow Datasets, which scoring published files does not need.
    from experiments.saferec.dataset import load_films

    return load_films(data_dir)


def _intervals(table: MetricTable, **options) -> dict[str, dict[str, float | int | None]]:
    return {
        name: _json_interval(interval)
        for name, interval in bootstrap_intervals(table, **options).items()
    }


def _json_interval(interval: Interval) -> dict[str, float | int | None]:
    return {
        "mean": _finite(interval.mean),
        "low": _finite(interval.low),
        "high": _finite(interval.high),
        "count": interval.count,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _context_numbers(table: MetricTable) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(context, len(numbers)) for context in table.contexts]


def _shown_interval(interval: Mapping[str, Any], *, digits: int = 4, split: str = " ") -> str:
    if interval["mean"] is None:
        return "-"
    mean, low, high = (f"{interval[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean}{split}({low} to {high})"


def _shown(key: str) -> str:
    short = key if len(key) <= 60 else key[:57] + "..."
    return repr(short)


__all__ = [
    "ID_FIELDS",
    "TEXT_FIELDS",
    "evaluate_command",
    "join_outputs",
    "output_text",
    "print_summary",
    "read_summary",
    "score_outputs",
    "score_texts",
    "summarize",
    "write_json",
]
