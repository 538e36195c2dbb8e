"""What general code knows of a metric: its column, its name, and which direction is better."""

import dataclasses
from typing import Literal, get_args

from experiments.common.scores.table import Table, with_parts
from gdpo_jax.errors import UserError

Better = Literal["", "more", "less"]
Method = Literal["bootstrap", "wilson"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """One column of a `Table` as tables, charts and comparisons show it.

    Of an experiment's metrics the first panel is the main one: differences from the baseline are
    shown for it. Raises UserError for an unknown direction or interval.
    """

    name: str  # the column
    label: str
    better: Better = ""  # "": neither direction is
    digits: int = 4  # decimals in tables
    beside: str = ""  # the metric that stands in the same cell, to say how far to trust this one
    panel: str = ""  # metrics of one panel stand in one table
    interval: Method = "bootstrap"  # "wilson" for a column of zeros and ones
    short: str = ""  # in its panel's table, and beside another metric; the label unless given
    parts: tuple[str, ...] = ()  # groups that it is split by: a column "name/label" for each label

    def __post_init__(self):
        for field, legal in (("better", get_args(Better)), ("interval", get_args(Method))):
            if getattr(self, field) not in legal:
                given = getattr(self, field)
                raise UserError(f"metric {self.name!r}: {field}={given!r}; legal: {legal}")

    @property
    def heading(self) -> str:
        """What it is called where its panel is known."""
        return self.short or self.label

    def part(self, label: str) -> "Metric":
        """The same over the items with this label of one group."""
        beside = f"{self.beside}/{label}" if self.beside else ""
        return dataclasses.replace(
            self,
            name=f"{self.name}/{label}",
            label=f"{self.label}, {label}",
            short=f"{self.heading}, {label}",
            beside=beside,
            parts=(),
        )


def split_columns(table: Table, metrics: tuple[Metric, ...]) -> Table:
    """The table with the columns of every metric's parts, and of what stands beside them."""
    for group in dict.fromkeys(group for metric in metrics for group in metric.parts):
        split = [metric for metric in metrics if group in metric.parts]
        names = [name for metric in split for name in (metric.name, metric.beside) if name]
        table = with_parts(table, group, names)
    return table


def exact_columns(table: Table, metrics: tuple[Metric, ...]) -> list[str]:
    """The columns, parts included, of metrics that ask for exact statistics and can have them:
    those need independent rows, so there are none where two rows share a cluster.
    """
    if len(set(table.clusters)) < len(table):
        return []
    names = [metric.name for metric in metrics if metric.interval == "wilson"]
    return [c for c in table.values if any(c == n or c.startswith(f"{n}/") for n in names)]


__all__ = ["Better", "Method", "Metric", "exact_columns", "split_columns"]
