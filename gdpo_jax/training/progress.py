"""What a person sees while a run goes on: a table redrawn in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping, Sequence

import jax
from rich.console import Console
from rich.live import Live
from rich.table import Table


class Progress:
    """A context manager that shows `columns`, pairs of label and metric name, after each step.

    In a terminal the table is redrawn in place; elsewhere a line is printed at most every
    `line_seconds` seconds and at the last step. Only process 0 shows anything.
    """

    def __init__(
        self,
        title: str,
        *,
        steps: int,
        columns: Sequence[tuple[str, str]],
        console: Console | None = None,
        line_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._title, self._steps, self._columns = title, steps, columns
        self._console = console or Console()
        self._line_seconds, self._clock = line_seconds, clock
        self._started = clock()
        self._first_shown: tuple[int, float] | None = None
        self._last_line = -float("inf")
        self._quiet = jax.process_index() != 0
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        if not self._quiet and self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show `metrics` of `step`, counted from 0."""
        if self._quiet:
            return
        done = step + 1
        shown = [
            (label, _number(metrics[name])) for label, name in self._columns if name in metrics
        ]
        left = self._time_left(done)
        if self._live is not None:
            table = Table(title=self._title)
            for label in ("step", *(label for label, _ in shown), "time left"):
                table.add_column(label, justify="right")
            table.add_row(f"{done}/{self._steps}", *(value for _, value in shown), left)
            self._live.update(table)
            return
        now = self._clock()
        if done < self._steps and now - self._last_line < self._line_seconds:
            return
        self._last_line = now
        values = "  ".join(f"{label} {value}" for label, value in shown)
        line = f"{self._title} step {done}/{self._steps}  {values}  {left} left"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _time_left(self, done: int) -> str:
        """From the pace since the first step, which compiled and says nothing about the others."""
        if self._first_shown is None:
            self._first_shown = done, self._clock()
            pace = self._clock() - self._started
        else:
            first, when = self._first_shown
            pace = (self._clock() - when) / (done - first)
        minutes, seconds = divmod(round(pace * (self._steps - done)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2e}" if value != 0 and abs(value) < 0.001 else f"{value:.3f}"
