"""The comparison of arms: collected from a run folder, printed, stored, held against the claims.

A run folder holds `seed-*/ARM/scores.json` for every arm that was scored. A verdict on a claim goes
by the means over seeds, and says in how many single seeds the claim holds as well.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from experiments.saferec.arms import ARMS
from experiments.saferec.claims import CLAIMS, MissingNumber, Value
from experiments.saferec.jsonfiles import read_json
from experiments.saferec.summaries import write_json
from gdpo_jax.errors import UserError

# Metric -> column heading. "metric/label" is the metric over one part of the conversations.
QUALITY = {
    "recall@5": "Recall@5",
    "recall@10": "Recall@10",
    "ndcg@5": "NDCG@5",
    "ndcg@10": "NDCG@10",
    "svr@5": "SVR@5",
    "svr@10": "SVR@10",
    "sdcg@5": "S-DCG@5",
    "sdcg@10": "S-DCG@10",
}
LISTS = {
    "list_length": "list length",
    "catalogue": "in catalogue",
    "coverage@10": "oracle coverage",
    "recall@10/said outright": "Recall@10, said outright",
    "recall@10/hinted": "Recall@10, hinted",
    "svr@10/said outright": "SVR@10, said outright",
    "svr@10/hinted": "SVR@10, hinted",
}
METRICS = {**QUALITY, **LISTS}
_TITLES = {arm.name: arm.title for arm in ARMS}
_LONGEST_WORD = max(len(word) for title in _TITLES.values() for word in title.split())


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One arm: `values` maps a metric to its mean over test conversations, one entry per seed.

    An entry is NaN where the metric does not apply to any conversation.
    """

    name: str
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]

    @property
    def title(self) -> str:
        """How tables call the arm."""
        return _TITLES[self.name]

    def mean(self, metric: str) -> float:
        """The mean over the seeds that have the metric; NaN if none has."""
        known = self._known(metric)
        return statistics.fmean(known) if known else math.nan

    def spread(self, metric: str) -> float:
        """The standard deviation over seeds, n - 1 in the denominator; NaN for fewer than two."""
        known = self._known(metric)
        return statistics.stdev(known) if len(known) > 1 else math.nan

    def _known(self, metric: str) -> list[float]:
        return [value for value in self.values[metric] if not math.isnan(value)]


@dataclasses.dataclass(frozen=True)
class Results:
    """The scored arms of one run folder, in the order of `ARMS`."""

    run_dir: Path
    arms: tuple[ArmResult, ...]

    def arm(self, name: str) -> ArmResult | None:
        """The arm of that name, or None if it was not scored."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds that any arm has."""
        return tuple(sorted({seed for arm in self.arms for seed in arm.seeds}))


class Verdict(NamedTuple):
    """A claim against the numbers; `holds` is None if an arm it speaks of was not scored."""

    claim: str
    holds: bool | None
    numbers: str


def read_scores(run_dir: Path) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Arm -> seed -> the summary in `seed-*/ARM/scores.json`, arms in the order of `ARMS`.

    Raises UserError if the folder holds none.
    """
    scores: dict[str, dict[int, Mapping[str, Any]]] = {}
    for arm in ARMS:
        for seed, folder in seed_folders(run_dir):
            path = folder / arm.name / "scores.json"
            if path.is_file():
                scores.setdefault(arm.name, {})[seed] = read_json(path)
    if not scores:
        raise UserError(
            f"{run_dir} holds no scored arm (no seed-*/ARM/scores.json in it); "
            f"run `python -m experiments.saferec reproduce --run-dir {run_dir}` first"
        )
    return scores


def seed_folders(run_dir: Path) -> list[tuple[int, Path]]:
    """The seed folders of a run folder, in order of seed."""
    folders = [(path.name.removeprefix("seed-"), path) for path in run_dir.glob("seed-*")]
    return sorted((int(seed), path) for seed, path in folders if seed.isdecimal())


def collect(run_dir: Path) -> Results:
    """Reads every scored arm of the run folder. Raises UserError if there is nothing to read."""
    arms = []
    for name, by_seed in read_scores(run_dir).items():
        values = {
            metric: tuple(
                _value(summary, metric, f"{run_dir}, seed {seed}, arm {name}")
                for seed, summary in by_seed.items()
            )
            for metric in METRICS
        }
        arms.append(ArmResult(name=name, seeds=tuple(by_seed), values=values))
    return Results(run_dir=run_dir, arms=tuple(arms))


def _value(summary: Mapping[str, Any], metric: str, where: str) -> float:
    name, _, label = metric.partition("/")
    try:
        part = summary["splits"].get("disclosure", {}).get(label) if label else summary
        if part is None:
            return math.nan
        mean = part["metrics"][name]["mean"]
        return math.nan if mean is None else float(mean)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{where}: scores.json has no {metric} ({error!r}); score it again"
        ) from None


def write_results(results: Results, path: Path) -> None:
    """The numbers of the table and the verdicts as JSON; NaN becomes null."""
    write_json(
        path,
        {
            "seeds": list(results.seeds),
            "arms": {
                arm.name: {
                    "title": arm.title,
                    "seeds": list(arm.seeds),
                    "metrics": {
                        metric: {
                            "mean": _finite(arm.mean(metric)),
                            "standard_deviation": _finite(arm.spread(metric)),
                            "by_seed": [_finite(value) for value in arm.values[metric]],
                        }
                        for metric in METRICS
                    },
                }
                for arm in results.arms
            },
            "verdicts": [verdict._asdict() for verdict in verdicts(results)],
        },
    )


def print_table(results: Results, console: Console) -> None:
    """Two tables that fit eighty columns, arms downwards; ± is the deviation over seeds."""
    seeds = len(results.seeds)
    over = f"mean over {seeds} seeds, ± their standard deviation" if seeds > 1 else "one seed"
    for title, columns in ((f"{results.run_dir}: {over}", QUALITY), ("lists and splits", LISTS)):
        table = Table(title=title, title_justify="left", show_lines=seeds > 1, padding=(0, 0))
        table.add_column("arm", min_width=_LONGEST_WORD)
        for heading in columns.values():
            table.add_column(heading.replace("@", "\n@").replace(", ", "\n"), justify="right")
        for arm in results.arms:
            table.add_row(arm.title, *(_cell(arm, metric) for metric in columns))
        console.print(table)


def print_verdicts(results: Results, console: Console) -> None:
    """One line per claim, whichever way it went."""
    marks = {True: "[green]holds[/green]", False: "[red]fails[/red]", None: "not run"}
    for number, verdict in enumerate(verdicts(results), start=1):
        console.print(f"{number}. {verdict.claim}: {marks[verdict.holds]}", highlight=False)
        console.print(f"   {verdict.numbers}", highlight=False, markup=False)


def _cell(arm: ArmResult, metric: str) -> str:
    mean, spread = arm.mean(metric), arm.spread(metric)
    if math.isnan(mean):
        return "-"
    digits = 2 if metric == "list_length" else 4
    text = f"{mean:.{digits}f}"
    return text if math.isnan(spread) else f"{text}\n[dim]±{spread:.{digits}f}[/dim]"


def verdicts(results: Results) -> list[Verdict]:
    """Every claim held against the means over seeds."""
    found = []
    for claim, test in CLAIMS:
        try:
            holds, numbers = test(_reader(results, None))
        except MissingNumber as missing:
            found.append(Verdict(claim, None, str(missing)))
            continue
        agreeing = []
        for seed in results.seeds if len(results.seeds) > 1 else ():
            try:
                agreeing.append(test(_reader(results, seed))[0])
            except MissingNumber:
                continue
        if agreeing:
            numbers += f"; holds in {sum(agreeing)} of {len(agreeing)} seeds"
        found.append(Verdict(claim, holds, numbers))
    return found


def _reader(results: Results, seed: int | None) -> Value:
    def value(name: str, metric: str) -> float:
        arm = results.arm(name)
        if arm is None or (seed is not None and seed not in arm.seeds):
            raise MissingNumber(f"{_TITLES[name]} was not scored")
        number = arm.mean(metric) if seed is None else arm.values[metric][arm.seeds.index(seed)]
        if math.isnan(number):
            raise MissingNumber(f"{_TITLES[name]} has no {METRICS[metric]}")
        return number

    return value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


__all__ = [
    "METRICS",
    "ArmResult",
    "Results",
    "Verdict",
    "collect",
    "print_table",
    "print_verdicts",
    "read_scores",
    "seed_folders",
    "verdicts",
    "write_results",
]
