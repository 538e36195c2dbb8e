"""Tables of a run's results for a terminal of eighty columns: arms downwards, metrics across."""

import math
from collections.abc import Callable, Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.common.scores.results import MAIN_K, ArmResult, Results
from experiments.common.scores.verdicts import verdicts
from experiments.saferec.evaluation.summaries import LIST_LABELS, METRIC_LABELS

SIGNIFICANT = 0.05
# Coverage stands in the cells of SVR, which it says how far to trust.
_SHOWN = {name: label for name, label in METRIC_LABELS.items() if name != "coverage"}


def print_table(results: Results, console: Console) -> None:
    """A table per cut-off, one of differences from the baseline, and those of lists and splits.

    A cell is the mean, its deviation over seeds where there are several, and its interval. Under
    SVR stands the share of the films that the oracle knows.
    """
    seeds = len(results.seeds)
    over = f": means over {seeds} seeds, ± their deviation" if seeds > 1 else ""
    console.print(f"{results.source}{over}", highlight=False, markup=False)
    console.print(results.basis, highlight=False, markup=False)
    for k in results.ks:
        columns = {f"{prefix}@{k}": label for prefix, label in _SHOWN.items()}
        _print(results, console, f"the first {k} titles", _known(results, columns), _cell)
    k = MAIN_K if MAIN_K in results.ks else results.ks[-1]
    if results.test:
        columns = {f"{prefix}@{k}": f"{label} @{k}" for prefix, label in _SHOWN.items()}
        title = f"difference from {results.arm(results.baseline).title}"
        _print(results, console, title, _known(results, columns), _difference)
        console.print(f"{results.test}; * below {SIGNIFICANT:g}", highlight=False, markup=False)
    _print(results, console, "lists", _known(results, LIST_LABELS), _cell)
    splits = {
        f"{prefix}@{k}/{part}": f"{METRIC_LABELS[prefix]} @{k}, {part}"
        for prefix in ("recall", "svr")
        for part in results.groups.get("disclosure", ())
    }
    if splits:
        _print(results, console, "how the sensitivity was said", _known(results, splits), _cell)


def print_verdicts(results: Results, console: Console) -> None:
    """One line per claim, whichever way it went."""
    marks = {True: "[green]holds[/green]", False: "[red]fails[/red]", None: "not run"}
    for number, verdict in enumerate(verdicts(results), start=1):
        console.print(f"{number}. {verdict.claim}: {marks[verdict.holds]}", highlight=False)
        console.print(f"   {verdict.numbers}", highlight=False, markup=False)


def _known(results: Results, columns: Mapping[str, str]) -> dict[str, str]:
    return {
        metric: label
        for metric, label in columns.items()
        if any(metric in arm.values for arm in results.arms)
    }


def _print(
    results: Results,
    console: Console,
    title: str,
    columns: Mapping[str, str],
    cell: Callable[[ArmResult, str], str],
) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    longest = max(len(word) for arm in results.arms for word in arm.title.split())
    table.add_column("arm", min_width=longest)
    for heading in columns.values():
        table.add_column(heading.replace(", ", "\n"), justify="right")
    for arm in results.arms:
        table.add_row(arm.title, *(cell(arm, metric) for metric in columns))
    console.print(table)


def _cell(arm: ArmResult, metric: str) -> str:
    mean, spread = arm.mean(metric), arm.spread(metric)
    if math.isnan(mean):
        return "-"
    digits = digits_of(metric)
    text = f"{mean:.{digits}f}"
    if not math.isnan(spread):
        text += f"±{spread:.{digits - 1}f}"
    interval = arm.intervals.get(metric)
    if interval is not None and not math.isnan(interval.low):
        text += f"\n[dim]{interval.low:.{digits - 1}f}-{interval.high:.{digits - 1}f}[/dim]"
    if metric.startswith("svr") and not math.isnan(known := arm.coverage_of(metric)):
        text += f"\n[dim]known {known:.3f}[/dim]"
    return text


def _difference(arm: ArmResult, metric: str) -> str:
    comparison = arm.against.get(metric)
    if comparison is None or math.isnan(comparison.difference):
        return "-"
    star = " *" if comparison.p_holm < SIGNIFICANT else ""
    return f"{comparison.difference:+.4f}\n[dim]p {comparison.p_holm:.4f}{star}[/dim]"


def digits_of(metric: str) -> int:
    """Decimals of a metric in tables: fewer for what is not a share."""
    return 3 if metric.partition("@")[0] in ("list_length", "count", "sdcg") else 4


__all__ = ["SIGNIFICANT", "digits_of", "print_table", "print_verdicts"]
