"""What a person reads while arms are trained and scored: plan, a line a stage, and the table."""

import math
import statistics
from collections.abc import Sequence

import jax
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.common.runs.arms import Arm, way_to
from experiments.common.runs.folder import Workspace
from experiments.common.runs.pipeline import Event, Tell, is_scored
from experiments.common.runs.schedule import minutes_left, tasks_left
from experiments.common.scores.metric import Metric

__all__ = ["print_stages", "tell_on"]

_DONE = {"trained": "trained", "scored": "answered and scored", "kept": "scored before"}


def print_stages(
    space: Workspace, arms: Sequence[Arm], seeds: int, console: Console, *, processes: int = 1
) -> None:
    """What is about to be done: every stage on the way to the arms, with its steps, how many seeds
    of it are scored already, and how long it takes where the preset says."""
    minutes = space.preset.minutes
    published = space.preset.pretrained is not None
    ways = [way_to(space.experiment.arms, arm, published=published) for arm in arms]
    table = Table(
        title=f"{space.path}: preset {space.preset.name}, {_count(seeds, 'seed')}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("arm", "starts from", "stage"):
        table.add_column(heading)
    for heading in ("steps", *(["minutes"] if minutes else []), "scored"):
        table.add_column(heading, justify="right")
    for arm in space.experiment.arms:
        if not any(arm in way for way in ways):
            continue
        done = sum(is_scored(space, arm, seed) for seed in range(seeds)) if arm in arms else 0
        steps = arm.stage.steps(space.preset)
        start = "" if arm.start is None else space.experiment.arm(arm.start).title
        row = [arm.title, start, type(arm.stage).__name__, f"{steps:,}" if steps else ""]
        if minutes:
            row.append(f"{minutes[arm.name]:.1f}" if arm.name in minutes else "")
        table.add_row(*row, f"{done} of {seeds}" if arm in arms else "")
    left = [task for seed in range(seeds) for task in tasks_left(space, arms, seed)]
    if jax.process_index() == 0:
        console.print(table)
        if minutes and left:
            total = math.ceil(minutes_left(left, minutes, processes))
            where = "the machine that the preset's file names"
            line = f"about {_count(total, 'minute')} on {where}, {_count(processes, 'process')}"
            console.print(line, highlight=False, markup=False)


def tell_on(console: Console, metrics: Sequence[Metric], arms: Sequence[Arm]) -> Tell:
    """A function that prints a line for each stage that ended, and the table of what is scored.

    The table has the metrics of the first panel.
    """
    beside = {metric.beside for metric in metrics}
    shown = [m for m in metrics if m.panel == metrics[0].panel and m.name not in beside]
    found: dict[str, list[dict[str, float]]] = {}

    def tell(event: Event) -> None:
        if jax.process_index() != 0:
            return
        took = f" in {_time(event.seconds)}" if event.what != "kept" else ""
        line = f"seed {event.seed}, {event.arm.title}: {_DONE[event.what]}{took}"
        console.print(line, highlight=False, markup=False)
        if event.table is not None:
            found.setdefault(event.arm.name, []).append(dict(event.table.means()))
        if event.what == "scored":
            console.print(_table(found, shown, arms))

    return tell


def _table(
    found: dict[str, list[dict[str, float]]], metrics: Sequence[Metric], arms: Sequence[Arm]
) -> Table:
    """The arms with what is known of them so far, means over the seeds that are scored."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("arm")
    for metric in metrics:
        table.add_column(metric.heading, justify="right")
    for arm in arms:
        seeds = found.get(arm.name, [])
        cells = []
        for metric in metrics:
            values = [means.get(metric.name, math.nan) for means in seeds]
            known = [value for value in values if not math.isnan(value)]
            unknown = "-" if seeds else "..."
            cells.append(f"{statistics.fmean(known):.{metric.digits}f}" if known else unknown)
        table.add_row(arm.title, *cells)
    return table


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _count(number: int, noun: str) -> str:
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"
