"""Several systems scored on the same records and held against one baseline.

A baseline is a metrics file that was written before, or answers that are scored as the systems are.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import Row, read_json, read_rows
from experiments.common.scores.results import Results, assemble
from experiments.saferec.evaluation.metrics import MetricTable
from experiments.saferec.evaluation.summaries import read_summary
from experiments.saferec.published.readers import read_records
from gdpo_jax.errors import UserError

BASELINE = "baseline"
_SETTINGS = ("convention", "unknown", "oracle", "oracle_options")


def label_paths(paths: Sequence[Path]) -> dict[str, Path]:
    """A short name for each path: its last parts, as many as tell all of them apart.

    Raises UserError if a path is given twice.
    """
    whole = [path.resolve() for path in paths]
    for place, path in enumerate(whole):
        if path in whole[:place]:
            raise UserError(f"{path} is given twice; give every outputs file once")
    for count in range(1, max((len(path.parts) for path in whole), default=0) + 1):
        names = ["/".join(path.parts[-count:]) for path in whole]
        if len(set(names)) == len(names):
            return dict(zip(names, paths))
    return {}


def read_baseline(
    path: Path,
    score: Callable[[Sequence[Row], str], MetricTable],
    *,
    settings: Mapping[str, Any],
) -> MetricTable:
    """The table to compare with: a metrics file's, or that of answers, which `score` scores.

    Raises UserError if the metrics were made with other `settings` (convention, unknown, oracle and
    its options).
    """
    stored = _stored_metrics(path)
    if stored is None:
        return score(read_records(path) if path.is_dir() else read_rows(path), str(path))
    for name in _SETTINGS:
        if name in stored and stored[name] != settings[name]:
            raise UserError(
                f"{path} was scored with {name} {stored[name]!r}, the outputs with "
                f"{settings[name]!r}; score both alike"
            )
    return read_summary(path)


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


def compare_tables(
    tables: Mapping[str, MetricTable],
    baseline: MetricTable | None,
    *,
    source: str,
    bootstrap: int,
    level: float,
    seed: int,
) -> Results:
    """The systems as results for tables, the baseline first where there is one."""
    scores = {name: {0: table} for name, table in tables.items()}
    if baseline is not None:
        scores = {BASELINE: {0: baseline}, **scores}
    return assemble(
        scores,
        titles={name: name for name in scores},
        source=source,
        baseline=None if baseline is None else BASELINE,
        bootstrap=bootstrap,
        level=level,
        seed=seed,
    )


__all__ = ["BASELINE", "compare_tables", "label_paths", "read_baseline"]
