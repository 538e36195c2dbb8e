"""The results of a run folder, and verdicts on its claims, as results.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.scores.claims import Verdict
from experiments.common.scores.results import ArmResult, Results
from experiments.common.scores.summaries import finite, plain, write_json

__all__ = ["write_results"]


def write_results(results: Results, path: Path, *, verdicts: Sequence[Verdict] = ()) -> None:
    """The numbers of the tables, and a verdict for each claim, as JSON; NaN becomes null.

    `conversations` and `claim` are keys of the file's first version: the items, a claim's text.
    """
    write_json(
        path,
        {
            "seeds": list(results.seeds),
            "conversations": results.items,
            "baseline": results.baseline,
            "bootstrap": results.bootstrap,
            "level": results.level,
            "basis": results.basis,
            "test": results.test,
            "arms": {
                arm.name: {
                    "title": arm.title,
                    "seeds": list(arm.seeds),
                    "metrics": {column: _entry(arm, column) for column in arm.values},
                }
                for arm in results.arms
            },
            "verdicts": [
                {"claim": verdict.text, "holds": verdict.holds, "numbers": verdict.numbers}
                for verdict in verdicts
            ],
        },
    )


def _entry(arm: ArmResult, column: str) -> dict[str, Any]:
    entry = {
        "mean": finite(arm.mean(column)),
        "standard_deviation": finite(arm.spread(column)),
        "by_seed": [finite(value) for value in arm.values[column]],
    }
    if (interval := arm.intervals.get(column)) is not None:
        entry["interval"] = plain(interval)
    if (comparison := arm.against.get(column)) is not None:
        entry["against_baseline"] = plain(comparison)
    return entry
