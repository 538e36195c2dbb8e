"""What the report knows of a run folder: results, rows of metrics, kept samples, and the oracle."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import read_json, read_rows
from experiments.common.files.tfds_folder import find_config
from experiments.common.report.charts import Entry, legend
from experiments.common.runs.samples import read_samples
from experiments.common.scores.results import ArmResult, Results
from experiments.saferec.arms import ARM_NAMES
from experiments.saferec.data.dataset import load_table
from experiments.saferec.oracle.catalogue import Oracle
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL, Convention


@dataclasses.dataclass(frozen=True)
class Trained:
    """What one arm of one run left behind; `rows` and `samples` by seed."""

    result: ArmResult
    rows: Mapping[int, Sequence[Mapping[str, Any]]]
    samples: Mapping[int, Sequence[Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run folder; `dashed` tells its lines apart from those of the run before it."""

    label: str  # empty if it is the only run of the page
    results: Results
    arms: Sequence[Trained]
    oracle: Oracle | None
    convention: Convention  # under which it was trained and scored
    dashed: bool

    def key(self, arm: str) -> str:
        """What ties all marks of an arm to the legend."""
        return f"{self.label}/{arm}"

    def name(self, title: str) -> str:
        """How the page calls an arm, with the run where there are several."""
        return f"{self.label}: {title}" if self.label else title


def load_runs(run_dirs: Sequence[Path], results: Sequence[Results]) -> list[Run]:
    """What else the folders of these results hold. Raises UserError for an unreadable file."""
    return [
        _load(path, found, label, dashed=place % 2 == 1)
        for place, (path, found, label) in enumerate(zip(run_dirs, results, _labels(run_dirs)))
    ]


def style(arm: str) -> str:
    """The colour class of an arm, the same in all charts."""
    return f"s{ARM_NAMES.index(arm)}"


def arm_legend(runs: Sequence[Run], *, among: Callable[[Trained], bool] = bool) -> str:
    """The legend of the arms of all runs for which `among` is true."""
    return legend(
        [
            Entry(
                run.key(arm.result.name),
                run.name(arm.result.title),
                style(arm.result.name),
                run.dashed,
            )
            for run in runs
            for arm in run.arms
            if among(arm)
        ]
    )


def heading(run: Run) -> str:
    """The heading of a run's part of a section; empty if it is the only run."""
    return f"<h3>{escape(run.label)}</h3>" if run.label else ""


def _labels(run_dirs: Sequence[Path]) -> list[str]:
    if len(run_dirs) == 1:
        return [""]
    names = [folder_name(path) for path in run_dirs]
    return [
        name if names.count(name) == 1 else f"{name} ({place})"
        for place, name in enumerate(names, start=1)
    ]


def folder_name(path: Path) -> str:
    """The last part of the path, also for a path such as "."."""
    return path.resolve().name


def _load(path: Path, results: Results, label: str, *, dashed: bool) -> Run:
    arms = []
    for arm in results.arms:
        folders = {seed: path / f"seed-{seed}" / arm.name for seed in arm.seeds}
        arms.append(
            Trained(
                result=arm,
                rows={seed: _rows(folder / "metrics.jsonl") for seed, folder in folders.items()},
                samples={
                    seed: read_samples(folder / "samples.jsonl") for seed, folder in folders.items()
                },
            )
        )
    convention = _convention(path)
    return Run(
        label=label,
        results=results,
        arms=arms,
        oracle=_oracle(path / "data", convention),
        convention=convention,
        dashed=dashed,
    )


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    """The rows of a metrics file; none if the arm wrote none yet."""
    return read_rows(path) if path.is_file() and path.stat().st_size else []


def _convention(path: Path) -> Convention:
    """Of the run's preset; fixed where the folder has none."""
    preset = read_json(path / "preset.json") if (path / "preset.json").is_file() else {}
    return FIXED if preset.get("official") is None else OFFICIAL


def _oracle(data_dir: Path, convention: Convention) -> Oracle | None:
    """The oracle of the run's own data set; None if the run read another folder's."""
    if find_config(data_dir, "conversations") is None:
        return None
    return load_table(data_dir).oracle(convention=convention)


__all__ = ["Run", "Trained", "arm_legend", "folder_name", "heading", "load_runs", "style"]
