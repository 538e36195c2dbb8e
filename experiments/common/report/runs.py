"""What a report knows of a run folder: results, verdicts, rows of metrics, and kept samples."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from experiments.common.files.json_rows import read_json, read_rows
from experiments.common.report.charts import Entry, Style, legend
from experiments.common.report.charts.svg import element, joined
from experiments.common.runs.samples import read_samples
from experiments.common.scores.claims import Verdict, hold
from experiments.common.scores.results import ArmResult, Results


@dataclasses.dataclass(frozen=True)
class Trained:
    """What one arm of one run left behind; `rows` of metrics and `samples` by seed."""

    result: ArmResult
    rows: Mapping[int, Sequence[Mapping[str, Any]]]
    samples: Mapping[int, Sequence[Mapping[str, Any]]]

    @property
    def optimized(self) -> bool:
        """Did it follow rewards? Rows of imitation have none."""
        return any(name.startswith("reward/") for rows in self.rows.values() for name in rows[0])


@dataclasses.dataclass(frozen=True)
class Run:
    """One run folder.

    `label` is empty if it is the only run of the page; `variant` tells its lines apart from those
    of the run before it. `places` orders the arms' styles, alike in all runs. `preset` is the
    stored one, empty if there is none; `data_dir` is the folder of its data, None if unknown.
    """

    path: Path
    label: str
    variant: int
    results: Results
    verdicts: Sequence[Verdict]
    arms: Sequence[Trained]
    places: Mapping[str, int]
    preset: Mapping[str, Any]
    data_dir: Path | None

    def key(self, arm: str) -> str:
        """What ties all marks of an arm to the legend."""
        return f"{self.label}/{arm}"

    def name(self, title: str) -> str:
        """How the page calls an arm, with the run where there are several."""
        return f"{self.label}: {title}" if self.label else title

    def style(self, arm: str) -> Style:
        """The style of an arm, the same in all charts."""
        return Style(self.places[arm], self.variant)


# What a section of the page makes of the runs; empty is left out.
Section = Callable[[Sequence[Run]], Markup]


def load_runs(
    run_dirs: Sequence[Path], results: Sequence[Results], *, arms: Sequence[str], claims: Sequence
) -> list[Run]:
    """What else the folders of these results hold.

    `arms` are the names of all arms of the experiment in order; `claims` are held against the
    results of each run. Raises UserError for an unreadable file.
    """
    names = dict.fromkeys([*arms, *(arm.name for found in results for arm in found.arms)])
    places = {name: place for place, name in enumerate(names)}
    return [
        Run(
            path=path,
            label=label,
            variant=place % 2,
            results=found,
            verdicts=hold(claims, found),
            arms=[_trained(path, arm) for arm in found.arms],
            places=places,
            preset=_record(path / "preset.json"),
            data_dir=_data_dir(path),
        )
        for place, (path, found, label) in enumerate(zip(run_dirs, results, _labels(run_dirs)))
    ]


def by_run(runs: Sequence[Run], part: Callable[[Run], Markup]) -> Markup:
    """The part of every run that has one, under its heading where there are several."""
    shown = [(run, part(run)) for run in runs]
    return joined(
        [
            (element("h3", run.label) if run.label else Markup("")) + found
            for run, found in shown
            if found
        ]
    )


def arm_legend(runs: Sequence[Run], *, among: Callable[[Trained], bool] = bool) -> Markup:
    """The legend of the arms of all runs for which `among` is true."""
    return legend(
        [
            Entry(run.key(name), run.name(arm.result.title), run.style(name))
            for run in runs
            for arm in run.arms
            for name in [arm.result.name]
            if among(arm)
        ]
    )


def folder_name(path: Path) -> str:
    """The last part of the path, also for a path such as "."."""
    return path.resolve().name


def _labels(run_dirs: Sequence[Path]) -> list[str]:
    if len(run_dirs) == 1:
        return [""]
    names = [folder_name(path) for path in run_dirs]
    return [
        name if names.count(name) == 1 else f"{name} ({place})"
        for place, name in enumerate(names, start=1)
    ]


def _trained(path: Path, arm: ArmResult) -> Trained:
    folders = {seed: path / f"seed-{seed}" / arm.name for seed in arm.seeds}
    rows = {seed: _rows(folder / "metrics.jsonl") for seed, folder in folders.items()}
    return Trained(
        result=arm,
        rows={seed: found for seed, found in rows.items() if found},
        samples={
            seed: found
            for seed, folder in folders.items()
            if (found := read_samples(folder / "samples.jsonl"))
        },
    )


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    """The rows of a metrics file; none if the arm wrote none yet."""
    return read_rows(path) if path.is_file() and path.stat().st_size else []


def _record(path: Path) -> Mapping[str, Any]:
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, Mapping) else {}


def _data_dir(path: Path) -> Path | None:
    """The folder that run.json names; runs of before it was kept have none but their own."""
    recorded = _record(path / "run.json").get("data_dir")
    folder = path / (recorded or "data")
    return folder if folder.is_dir() else None


__all__ = ["Run", "Section", "Trained", "arm_legend", "by_run", "folder_name", "load_runs"]
