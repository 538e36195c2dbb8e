"""From a folder of published files to a data set, with every refused row listed.

The files of SafeCRS (arXiv 2603.03536) are found by their published names anywhere in the folder:

    *sft*/{train,validation,test}       save_to_disk folders -> splits of the same names
    *grpo*/{train,validation,test}      the same -> grpo_train, ...
    saferec_*.json, *_with_assigned_traits*.json, *_with_traits.json, *_final.json
                                        raw trait assignments -> a split named as the file
    movie_trait_sensitivity.json, title_to_imdb.{pkl,json}, gt_catalog*.{pkl,json}
    traits*weights*.json                compared with the built-in table
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import read_rows
from experiments.saferec.data.published_rows import published_record, safety_notes
from experiments.saferec.data.store import REJECTED, check_free, write_dataset
from experiments.saferec.oracle.traits import TRAITS
from experiments.saferec.published.readers import (
    Reject,
    read_catalogue,
    read_sensitivity,
    read_title_map,
    read_traits,
)
from experiments.saferec.published.tables import PublishedTable
from gdpo_jax.data.arrow_rows import read_arrow
from gdpo_jax.errors import UserError

__all__ = ["build_published", "describe"]

_SPLITS = ("train", "validation", "test")
_RAW = ("saferec_*.json", "*_with_assigned_traits*.json", "*_with_traits.json", "*_final.json")
_TABLES = {
    "sensitivity": ("movie_trait_sensitivity.json",),
    "title_map": ("title_to_imdb.pkl", "title_to_imdb.json"),
    "catalogue": ("gt_catalog*.pkl", "gt_catalog*.json"),
    "traits": ("traits*weights*.json",),
}


class _Ledger:
    """What was read, kept and refused, file by file."""

    def __init__(self, source: Path):
        self._source = source
        self.kept: dict[str, int] = {}
        self.rejected: list[dict[str, Any]] = []

    def reject(self, path: Path, row: int, reason: str) -> None:
        """A bad row; reading goes on."""
        self.rejected.append({"file": self.name(path), "index": row, "reason": reason})

    def keep(self, path: Path, count: int) -> None:
        """How many rows of a file are kept."""
        self.kept[self.name(path)] = count

    def name(self, path: Path) -> str:
        """A path as the user sees it in the folder."""
        return str(path.relative_to(self._source))

    def counts(self) -> dict[str, dict[str, int]]:
        """{file: {"kept": ..., "rejected": ..., "read": ...}}."""
        refused = {name: 0 for name in self.kept}
        for row in self.rejected:
            refused[row["file"]] += 1
        return {
            name: {"kept": kept, "rejected": refused[name], "read": kept + refused[name]}
            for name, kept in self.kept.items()
        }


def build_published(source: Path, data_dir: Path) -> dict[str, Any]:
    """Writes the data set of a folder of published files; returns what counts.json holds.

    Rows that cannot be used are listed in rejected.jsonl with file, index and reason. A file that
    cannot be read at all, or a folder without published files, raises UserError, and nothing is
    written.
    """
    if not source.is_dir():
        raise UserError(f"no folder {source}")
    check_free(data_dir)
    ledger = _Ledger(source)
    table, notes = _read_tables(source, ledger)
    oracle = table.oracle() if table.title_map else None
    records: dict[str, list[dict]] = {}
    for split, path in _find_records(source).items():
        rows = read_arrow(path) if path.is_dir() else read_rows(path, any_value=True)
        records[split] = _checked(rows, path, ledger.reject)
        ledger.keep(path, len(records[split]))
        notes |= safety_notes(split, records[split], oracle)
    if not ledger.kept:
        names = ", ".join(name for patterns in _TABLES.values() for name in patterns)
        raise UserError(
            f"{source} holds no published files; looked for folders named *sft* or *grpo* with "
            f"train, validation or test inside, for {', '.join(_RAW)}, {names}"
        )
    if not (table.catalogue or table.title_map) and not any(records.values()):
        first = f"; the first: {ledger.rejected[0]}" if ledger.rejected else ""
        raise UserError(f"{source}: no row can be used{first}")
    counts = {"files": ledger.counts(), "notes": notes}
    write_dataset(data_dir, table, records, rejected=ledger.rejected, counts=counts)
    return {**counts, "rejected": str(data_dir / "saferec" / REJECTED)}


def _read_tables(source: Path, ledger: _Ledger) -> tuple[PublishedTable, dict[str, Any]]:
    paths = {role: _only(source, patterns) for role, patterns in _TABLES.items()}
    if (paths["sensitivity"] is None) != (paths["title_map"] is None):
        lacking = "sensitivity" if paths["sensitivity"] is None else "title_map"
        raise UserError(
            f"{source} has no {_TABLES[lacking][0]}: the oracle is made of the sensitivities and "
            "the title map together; add it or take the other away"
        )

    def read(role: str, reader: Callable[..., Any], empty: Any) -> Any:
        path = paths[role]
        if path is None:
            return empty
        value = reader(path, reject=ledger.reject)
        ledger.keep(path, len(value))
        return value

    table = PublishedTable(
        catalogue=tuple(read("catalogue", read_catalogue, ())),
        title_map=read("title_map", read_title_map, {}),
        sensitivity=read("sensitivity", read_sensitivity, {}),
    )
    notes: dict[str, Any] = {}
    if paths["traits"] is not None:
        traits = read_traits(paths["traits"])
        ledger.keep(paths["traits"], len(traits))
        ours = {trait.key: trait for trait in TRAITS}
        other = [trait.key for trait in traits if trait != ours[trait.key]]
        notes["traits that differ from the built-in table"] = other
    if table.title_map:
        known = sum(imdb_id in table.sensitivity for imdb_id in table.title_map.values())
        notes["titles of the map with sensitivities"] = f"{known} of {len(table.title_map)}"
    return table, notes


def _find_records(source: Path) -> dict[str, Path]:
    """Folder or file of every split."""
    found: dict[str, Path] = {}
    for state in sorted(source.rglob("state.json")):
        folder = state.parent
        parents = folder.relative_to(source).parts[:-1] or (source.name,)
        kind = next((k for k in ("grpo", "sft") if any(k in name for name in parents)), None)
        if kind is not None and folder.name in _SPLITS:
            split = folder.name if kind == "sft" else f"grpo_{folder.name}"
            if split in found:
                raise UserError(f"{found[split]} and {folder} are both {split}; keep one of them")
            found[split] = folder
    for path in sorted({path for pattern in _RAW for path in source.rglob(pattern)}):
        split = re.sub(r"\W", "_", path.stem)
        if split in found:
            raise UserError(f"{found[split]} and {path} are both {split}; keep one of them")
        found[split] = path
    return found


def _only(source: Path, patterns: tuple[str, ...]) -> Path | None:
    paths = sorted(path for pattern in patterns for path in source.rglob(pattern))
    if len(paths) > 1:
        raise UserError(f"{paths[0]} and {paths[1]} hold the same; keep one of them")
    return paths[0] if paths else None


def _checked(rows: list[Any], path: Path, reject: Reject) -> list[dict[str, Any]]:
    """The records of the rows that can be used."""
    records: list[dict[str, Any]] = []
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        try:
            record = published_record(row, index)
            name = record["sample_id"]
            if name in first:
                raise UserError(f"field 'sample_id': {name!r} is also the id of row {first[name]}")
        except UserError as error:
            reject(path, index, str(error))
        else:
            first[name] = index
            records.append(record)
    return records


def describe(counts: Mapping[str, Any]) -> list[str]:
    """What a build says: how many rows of what it kept, and where the others are listed."""
    lines = [
        f"{name}: kept {entry['kept']} of {entry['read']}"
        for name, entry in counts["files"].items()
    ]
    lines += [f"{name}: {value}" for name, value in counts["notes"].items()]
    total = sum(entry["rejected"] for entry in counts["files"].values())
    lines.append(f"{total} rejected, listed in {counts['rejected']}")
    return lines
