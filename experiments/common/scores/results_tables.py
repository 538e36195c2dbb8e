"""Tables of a run's results for a terminal of eighty columns: arms downwards, metrics across."""

import math
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.common.scores.claims import Verdict
from experiments.common.scores.metric import Metric
from experiments.common.scores.results import ArmResult, Results

SIGNIFICANT = 0.05
_WIDEST = 6  # columns of a table of parts; groups of more labels are left to the page

Cell = Callable[[Results, ArmResult, Metric], str]


def print_table(results: Results, console: Console) -> None:
    """A table per panel of metrics, differences from the baseline behind the first, and the parts
    of groups that metrics are split by.

    A cell is the mean, its deviation over seeds where there are several, its interval, and what
    stands beside the metric.
    """
    seeds = len(results.seeds)
    over = f": means over {seeds} seeds, ± their deviation" if seeds > 1 else ""
    console.print(f"{results.source}{over}", highlight=False, markup=False)
    console.print(results.basis, highlight=False, markup=False)
    for place, (panel, metrics) in enumerate(results.panels.items()):
        _print(results, console, panel, metrics, _cell)
        directed = [metric for metric in metrics if metric.better]
        if place == 0 and results.test and directed:
            title = f"{panel}, difference from {results.arm(results.baseline).title}".lstrip(", ")
            _print(results, console, title, directed, _difference)
            console.print(f"{results.test}; * below {SIGNIFICANT:g}", highlight=False, markup=False)
    for group, labels in results.groups.items():
        split = [m for m in results.metrics if group in m.parts]
        parts = [metric.part(label) for metric in split for label in labels]
        # A metric may apply to no item with a label.
        known = [p for p in parts if any(not math.isnan(a.mean(p.name)) for a in results.arms)]
        if known and len(known) <= _WIDEST:
            _print(results, console, f"by {group}", known, _cell)


def print_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """Two lines per claim, whichever way it went."""
    marks = {True: "[green]holds[/green]", False: "[red]fails[/red]", None: "not run"}
    for number, verdict in enumerate(verdicts, start=1):
        console.print(f"{number}. {escape(verdict.text)}: {marks[verdict.holds]}", highlight=False)
        console.print(f"   {verdict.numbers}", highlight=False, markup=False)


def _print(
    results: Results, console: Console, title: str, metrics: Sequence[Metric], cell: Cell
) -> None:
    table = Table(title=escape(title) or None, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    longest = max(len(word) for arm in results.arms for word in arm.title.split())
    table.add_column("arm", min_width=longest)
    for metric in metrics:
        table.add_column(escape(metric.heading).replace(", ", "\n"), justify="right")
    for arm in results.arms:
        table.add_row(escape(arm.title), *(cell(results, arm, metric) for metric in metrics))
    console.print(table)


def _cell(results: Results, arm: ArmResult, metric: Metric) -> str:
    mean, spread, digits = arm.mean(metric.name), arm.spread(metric.name), metric.digits
    if math.isnan(mean):
        return "-"
    text = f"{mean:.{digits}f}"
    if not math.isnan(spread):
        text += f"±{spread:.{max(digits - 1, 0)}f}"
    interval = arm.intervals.get(metric.name)
    if interval is not None and not math.isnan(interval.low):
        text += "\n[dim]{:.{d}f}-{:.{d}f}[/dim]".format(
            interval.low, interval.high, d=max(digits - 1, 0)
        )
    if metric.beside and not math.isnan(beside := arm.mean(metric.beside)):
        heading = results.metric(metric.beside.partition("/")[0]).heading
        text += f"\n[dim]{heading} {beside:.3f}[/dim]"
    return text


def _difference(results: Results, arm: ArmResult, metric: Metric) -> str:
    comparison = arm.against.get(metric.name)
    if comparison is None or math.isnan(comparison.difference):
        return "-"
    star = " *" if comparison.p_holm < SIGNIFICANT else ""
    return f"{comparison.difference:+.4f}\n[dim]p {comparison.p_holm:.4f}{star}[/dim]"


__all__ = ["SIGNIFICANT", "print_table", "print_verdicts"]
