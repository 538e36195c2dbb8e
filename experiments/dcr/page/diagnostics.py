"""Sections about what the commands `kernel` and `separation` have found in a run's arms."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from experiments.common.files.json_rows import read_json
from experiments.common.report.charts import Series, line_chart
from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import charts, quiet
from experiments.common.report.runs import Run, arm_legend, by_run
from experiments.common.report.tables import HeatCell, heat_map
from experiments.common.scores.results import seed_folders
from experiments.dcr.diagnostics import KERNEL_FILE, SEPARATION_FILE
from gdpo_jax.errors import UserError

__all__ = ["kernels", "separations"]


def separations(runs: Sequence[Run]) -> Markup:
    """A section: separation of kinds of prompts by layer, before and after."""
    shown = by_run(runs, _separations)
    note = quiet(
        "Silhouette of plain, seemingly toxic and toxic test prompts by cosine distance, the mean "
        "cosine of seemingly toxic and toxic ones, and the area under the curve of a probe that "
        "tells these two apart, behind every layer; the range is over seeds."
    )
    return shown and joined([note, arm_legend(runs), shown])


def kernels(runs: Sequence[Run]) -> Markup:
    """A section: block means of the learning kernel by arm, of the first seed that has them."""
    shown = by_run(runs, _kernels)
    note = quiet(
        "Mean norm of the learning kernel at the first generated token between a test prompt (row) "
        "and prompts of a kind (column), beside the prompt's own: how much a step on those does to "
        "it. Near 1, they are refused together."
    )
    return shown and note + shown


def _separations(run: Run) -> Markup:
    measures = {
        "silhouette": lambda row: row["silhouette"],
        "cosine, seemingly toxic and toxic": lambda row: row["similarity"]["seeming/toxic"],
        "area under the probe's curve": lambda row: row["auc"],
    }
    found = [arms for _, arms in _stored(run, SEPARATION_FILE)]
    drawn = []
    for title, measure in measures.items():
        series = [
            Series(
                key=run.key(arm.name),
                label=run.name(arm.title),
                style=run.style(arm.name),
                runs=[
                    [(row["layer"], measure(row)) for row in arms[arm.name]]
                    for arms in found
                    if arm.name in arms
                ],
            )
            for arm in run.results.arms
        ]
        drawn.append(line_chart(title, series, x_label="layer"))
    return charts(drawn)


def _kernels(run: Run) -> Markup:
    for seed, arms in _stored(run, KERNEL_FILE):
        rows: dict[str, list[HeatCell | None]] = {}
        columns: list[str] = []
        for arm in run.results.arms:
            blocks = arms.get(arm.name, {}).get("blocks", {})
            columns = columns or [f"step on {kind}" for kind in blocks]
            for kind, row in blocks.items():
                rows[f"{arm.title}: {kind}"] = [
                    HeatCell(value, f"{arm.title}, {kind}") for value in row.values()
                ]
        if rows:
            label = f"Learning kernel, seed {seed}"
            return heat_map(rows, columns, better="less", label=label)
    return Markup("")


def _stored(run: Run, name: str) -> list[tuple[int, Mapping[str, Any]]]:
    """What the files of this name have by arm, for every seed that has one.

    Raises UserError for a damaged file.
    """
    found = []
    for seed, folder in seed_folders(run.path):
        if (folder / name).is_file():
            found.append((seed, _arms(folder / name)))
    return found


def _arms(path: Path) -> Mapping[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("arms"), dict):
        raise UserError(f"{path} is no file of this project; delete it, and run the command again")
    return value["arms"]
