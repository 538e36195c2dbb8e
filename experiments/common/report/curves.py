"""What training wrote: curves of its metrics, and how kept advantages and rewards are spread."""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from experiments.common.report.charts import Series, Values, histogram, line_chart
from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import charts, quiet
from experiments.common.report.runs import Run, Trained, arm_legend

# Title of a chart -> column of metrics.jsonl; {} stands for the name of each reward.
_LEARNING = {
    "{} reward": "reward/{}/mean",
    "completion length in tokens": "completions/length_mean",
    "KL to the reference": "kl/k3",
    "entropy": "entropy",
    "clip fraction": "clip_ratio/region_mean",
    "groups without any signal": "zero_variance_fraction",
    "loss": "loss",
}
_DIAGNOSTICS = {
    "{}: groups without variance": "reward/{}/zero_variance_fraction",
    "{}: share of the advantage": "advantage/share/{}",
    "rewards in conflict": "advantage/conflict_rate",
    "rewards cancelling out": "advantage/cancellation_rate",
    "different advantages in a group": "advantage/distinct_per_group",
    "truncated completions": "completions/truncated_fraction",
    "gradient norm": "grad_norm",
    "largest gap between sampler and trainer": "sampler/gap_max",
    "tokens per second": "tokens_per_second",
}


def learning_curves(runs: Sequence[Run]) -> Markup:
    """A section: rewards, loss and what else tells whether an arm learns."""
    return curves(runs, _LEARNING)


def diagnostics(runs: Sequence[Run]) -> Markup:
    """A section: what tells why an arm does not learn."""
    return curves(runs, _DIAGNOSTICS)


def curves(runs: Sequence[Run], columns: Mapping[str, str]) -> Markup:
    """A chart per column of metrics.jsonl that any arm wrote; `columns` is title -> column.

    Imitation and policy optimisation run over different steps and scales, so a column that both
    have is drawn twice.
    """
    drawn = []
    for title, column in _named(runs, columns).items():
        kinds = [
            [
                _series(run, arm, column)
                for run in runs
                for arm in run.arms
                if arm.optimized == optimized
            ]
            for optimized in (False, True)
        ]
        both = all(any(one.points() for one in series) for series in kinds)
        for series, kind in zip(kinds, (", imitation", ", policy")):
            drawn.append(line_chart(title + kind * both, series, smooth=True))
    note = quiet("Bold: a moving mean. Faint: single steps, or the range over seeds.")
    legend = arm_legend(runs, among=lambda arm: bool(arm.rows))
    shown = charts(drawn)
    return shown and joined([note, legend, shown])


def distributions(runs: Sequence[Run]) -> Markup:
    """A section: histograms over the kept groups, of the advantages and of every reward."""
    names = dict.fromkeys(
        name for run in runs for arm in run.arms for kept in arm.samples.values()
        for sample in kept for name in sample["rewards"]
    )  # fmt: skip
    shown = charts(
        [
            histogram("advantages", _gathered(runs, None)),
            *(histogram(f"{name} reward", _gathered(runs, name)) for name in names),
        ]
    )
    note = quiet("Over the groups that the run kept as samples, all steps together.")
    legend = arm_legend(runs, among=lambda arm: bool(arm.samples))
    return shown and joined([note, legend, shown])


def _named(runs: Sequence[Run], columns: Mapping[str, str]) -> dict[str, str]:
    """The columns with one for every reward that any row has in place of those with {}."""
    names = dict.fromkeys(
        column.split("/")[1]
        for run in runs for arm in run.arms for rows in arm.rows.values() for row in rows[:1]
        for column in row if column.startswith("reward/")
    )  # fmt: skip
    found = {}
    for title, column in columns.items():
        for name in names if "{}" in column else [""]:
            found[title.format(name)] = column.format(name)
    return found


def _series(run: Run, arm: Trained, column: str) -> Series:
    name = arm.result.name
    lines = [
        [(row["step"], row[column]) for row in rows if column in row] for rows in arm.rows.values()
    ]
    return Series(
        key=run.key(name),
        label=run.name(arm.result.title),
        style=run.style(name),
        runs=[line for line in lines if line],
    )


def _gathered(runs: Sequence[Run], reward: str | None) -> list[Values]:
    """All kept numbers of a reward, or the advantages, by arm."""
    found = []
    for run in runs:
        for arm in run.arms:
            kept = [sample for samples in arm.samples.values() for sample in samples]
            groups = [
                sample["advantages"] if reward is None else sample["rewards"].get(reward, [])
                for sample in kept
            ]
            numbers = [np.ravel(np.array(group, dtype=np.float64)) for group in groups]
            flat = np.concatenate(numbers) if numbers else np.zeros(0)
            name, title = arm.result.name, run.name(arm.result.title)
            values = flat[~np.isnan(flat)].tolist()
            found.append(Values(run.key(name), title, run.style(name), values))
    return found


__all__ = ["curves", "diagnostics", "distributions", "learning_curves"]
