"""A log of a runtime's events: sums of what parts cost, and rows in a file."""

import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.common.files.row_log import append_row
from experiments.curate.mirror.costs import PartCost, add_calls, event_row
from experiments.curate.mirror.runtime import Event
from gdpo_jax.errors import UserError

__all__ = ["CostLog", "cost_table"]


class CostLog:
    """Takes the events of a runtime: sums what parts cost, and writes rows where a file is given.

    A row that cannot be written is told once, and fails no turn.
    """

    def __init__(self, path: Path | None, console: Console):
        self._path, self._console, self._told = path, console, False
        self._lock = threading.Lock()
        self.costs: dict[str, PartCost] = {}

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.costs = add_calls(self.costs, event.calls)
            if event.what in ("failed", "forgotten"):
                self._say(f"{event.what}: {event.error}")
            if self._path is not None:
                try:
                    append_row(self._path, event_row(event, now=time.time()))
                except UserError as error:
                    if not self._told:
                        self._say(str(error))
                    self._told = True

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def cost_table(costs: dict[str, PartCost]) -> Table:
    """Calls, seconds and tokens by part."""
    table = Table()
    for heading in ("part", "calls", "failed", "mean s", "most s", "tokens in", "out", "cost"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for part, cost in costs.items():
        unknown = cost.unpriced == cost.calls - cost.failed
        table.add_row(
            part,
            f"{cost.calls}",
            f"{cost.failed}",
            f"{cost.seconds / cost.calls:.2f}",
            f"{cost.slowest:.2f}",
            f"{cost.prompt_tokens}",
            f"{cost.completion_tokens}",
            "unknown" if unknown else f"{cost.cost:.4f}",
        )
    return table
