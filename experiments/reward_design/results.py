"""What a study found: tables with seeds and spread, figures, claims; as text and as JSON."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from experiments.common.report.charts import Series, Trail
from experiments.common.scores.claims import Verdict
from experiments.common.scores.results_tables import print_verdicts
from experiments.common.scores.summaries import finite


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number per seed; shown as mean ± standard deviation (n - 1)."""

    values: tuple[float, ...]
    digits: int = 3

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds, None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ±{self.spread:.{self.digits}f}"
        return f"{self.mean:.{self.digits}f}{spread}"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of texts, counts and cells under their columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | Cell, ...], ...]


@dataclasses.dataclass(frozen=True)
class LineFigure:
    """Lines over a common x, each the mean and the range of its seeds."""

    title: str
    series: tuple[Series, ...]
    x_label: str = "step"


@dataclasses.dataclass(frozen=True)
class TrailFigure:
    """Trails through a plane, on which more is better both ways."""

    title: str
    trails: tuple[Trail, ...]
    x_label: str
    y_label: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """All of a study."""

    name: str
    title: str
    seeds: int  # 0 where nothing is random
    steps: int  # 0 where nothing is trained
    tables: tuple[Table, ...]
    figures: tuple[LineFigure | TrailFigure, ...]
    claims: tuple[Verdict, ...]

    def basis(self) -> str:
        """What the numbers rest on, in words."""
        if not self.seeds:
            return "counted, nothing is random"
        over = f"means over {self.seeds} seeds, ± their standard deviation"
        return f"{over if self.seeds > 1 else 'one seed'}; {self.steps} steps"


def print_findings(findings: Findings, console: Console) -> None:
    """Tables and claims of a study, for the terminal."""
    console.print(f"[bold]{findings.name}[/bold]: {findings.title}", highlight=False)
    console.print(findings.basis(), highlight=False)
    for table in findings.tables:
        shown = RichTable(title=table.title, title_justify="left", padding=(0, 1))
        for i, column in enumerate(table.columns):
            text = any(isinstance(row[i], str) for row in table.rows)
            shown.add_column(column, justify="left" if text else "right")
        for row in table.rows:
            shown.add_row(*(str(value) for value in row))
        console.print(shown)
    print_verdicts(findings.claims, console)


def as_json(findings: Findings) -> dict[str, Any]:
    """The same as plain data: every number by seed, every curve as (x, mean, lowest, highest)."""
    return {
        "study": findings.name,
        "title": findings.title,
        "seeds": list(range(findings.seeds)),
        "steps": findings.steps,
        "claims": [dataclasses.asdict(claim) for claim in findings.claims],
        "tables": [
            {
                "title": table.title,
                "columns": list(table.columns),
                "rows": [[_plain(value) for value in row] for row in table.rows],
            }
            for table in findings.tables
        ],
        "figures": [_figure(figure) for figure in findings.figures],
    }


def _plain(value: str | int | Cell) -> Any:
    if not isinstance(value, Cell):
        return value
    return {
        "mean": finite(value.mean),
        "standard_deviation": None if value.spread is None else finite(value.spread),
        "by_seed": [finite(number) for number in value.values],
    }


def _figure(figure: LineFigure | TrailFigure) -> dict[str, Any]:
    if isinstance(figure, TrailFigure):
        axes = {"x": figure.x_label, "y": figure.y_label}
        lines = [{"label": one.label, "points": list(one.points)} for one in figure.trails]
    else:
        axes = {"x": figure.x_label, "y": "mean, lowest, highest"}
        lines = [
            {"label": one.label, "points": [_numbers(point) for point in one.points()]}
            for one in figure.series
        ]
    return {"title": figure.title, "axes": axes, "lines": lines}


def _numbers(point: Sequence[float]) -> list[float | None]:
    return [finite(number) for number in point]


__all__ = [
    "Cell",
    "Findings",
    "LineFigure",
    "Table",
    "TrailFigure",
    "as_json",
    "print_findings",
]
