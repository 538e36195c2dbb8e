"""What systems are compared with: scores that were written before, or answers to the same records.

Scores are comparable where convention, counting of unknown items and oracle agree. Oracles are told
apart by a digest of all they know, since one oracle has many descriptions.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import read_json, read_rows
from experiments.common.scores.summaries import read_summary
from experiments.common.scores.table import Table
from experiments.saferec.published.readers import read_records
from experiments.saferec.scoring.references import Reference
from gdpo_jax.errors import UserError

_COMPARED = ("convention", "unknown", "oracle_options", "oracle_digest")


def read_baseline(path: Path, reference: Reference, **options: bool) -> tuple[Table, str]:
    """The table to compare with, and a sentence on what could not be checked (mostly empty).

    It is that of a metrics file, or of answers, which are scored with the `options` of
    `Reference.score`. Raises UserError if the metrics were made with other settings.
    """
    stored = _stored_metrics(path)
    if stored is None:
        rows = read_records(path) if path.is_dir() else read_rows(path)
        return reference.score(rows, str(path), **options), ""
    for name in _COMPARED:
        mine = json.loads(json.dumps(reference.settings[name]))
        if name in stored and stored[name] != mine:
            raise UserError(_differing(path, name, stored, reference.settings))
    unchecked = "oracle_digest" not in stored
    note = f"{path} does not say which oracle scored it: make sure that it was this one"
    return read_summary(path), note if unchecked else ""


def _differing(
    path: Path, name: str, stored: Mapping[str, Any], settings: Mapping[str, Any]
) -> str:
    if name == "oracle_digest":
        theirs, ours = stored.get("oracle"), settings["oracle"]
        return (
            f"{path} was scored by another oracle ({theirs}) than the outputs ({ours}); give the "
            "data it was made with (data_dir, or sensitivity and title_map), or score both alike"
        )
    option = "oracle" if name == "oracle_options" else name
    return (
        f"{path} was scored with {name} {stored[name]!r}, the outputs with {settings[name]!r}; "
        f"score both alike (--{option}...)"
    )


def _stored_metrics(path: Path) -> Mapping[str, Any] | None:
    try:
        value = read_json(path)
    except UserError:
        return None  # answers, or a fault that reading them will name
    if isinstance(value, dict) and "systems" in value:
        raise UserError(
            f"{path} holds the metrics of several systems; give the outputs or the metrics of one"
        )
    return value if isinstance(value, dict) and "conversations" in value else None


__all__ = ["read_baseline"]
