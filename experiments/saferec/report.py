"""One self-contained HTML page about finished runs: opens offline, asks the network for nothing.

Table and verdicts, recall against violations, violations by trait, curves over training, the spread
of rewards and advantages, and the sampled groups to read. Several runs stand side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from experiments.charts import (
    Dot,
    Series,
    heat_map,
    histogram,
    line_chart,
    scatter_chart,
)
from experiments.page import write_page
from experiments.saferec.arms import ARM_NAMES
from experiments.saferec.report_runs import Run, Trained, folder_name, load_runs
from experiments.saferec.report_samples import sample_article
from experiments.saferec.results import METRICS, ArmResult, verdicts
from gdpo_jax.errors import UserError

# Title of a chart -> column of metrics.jsonl.
CURVES = {
    "relevance reward": "reward/relevance/mean",
    "safety reward": "reward/safety/mean",
    "count reward": "reward/count/mean",
    "completion length in tokens": "completions/length_mean",
    "KL to the reference": "kl/k3",
    "entropy": "entropy",
    "clip fraction": "clip_ratio/region_mean",
    "groups without any signal": "zero_variance_fraction",
    "loss": "loss",
}
DIAGNOSTICS = {
    "relevance: groups without variance": "reward/relevance/zero_variance_fraction",
    "safety: groups without variance": "reward/safety/zero_variance_fraction",
    "count: groups without variance": "reward/count/zero_variance_fraction",
    "relevance: share of the advantage": "advantage/share/relevance",
    "safety: share of the advantage": "advantage/share/safety",
    "count: share of the advantage": "advantage/share/count",
    "rewards in conflict": "advantage/conflict_rate",
    "rewards cancelling out": "advantage/cancellation_rate",
    "different advantages in a group": "advantage/distinct_per_group",
    "truncated completions": "completions/truncated_fraction",
    "gradient norm": "grad_norm",
    "largest gap between sampler and trainer": "sampler/gap_max",
    "tokens per second": "tokens_per_second",
}


def write_report(run_dirs: Sequence[Path], out: Path) -> Path:
    """Writes the page about the run folders to `out` and returns `out`.

    Raises UserError if a folder holds no scored arm or a file in it cannot be read.
    """
    if not run_dirs:
        raise UserError("name at least one run folder for the report")
    runs = load_runs(run_dirs)
    sections = {
        "Results": "".join(_results(run) for run in runs),
        "Recall against violations": _pareto(runs),
        "Violations by sensitivity": "".join(_traits(run) for run in runs),
        "Learning curves": _charts(runs, CURVES),
        "Rewards and advantages": _distributions(runs),
        "Diagnostics": _charts(runs, DIAGNOSTICS),
        "Samples": _samples(runs),
    }
    title = "SafeRec: " + ", ".join(run.label or folder_name(run.results.run_dir) for run in runs)
    return write_page(title, sections, out)


def _style(arm: str) -> str:
    return f"s{ARM_NAMES.index(arm)}"


def _results(run: Run) -> str:
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in METRICS.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(arm.title)}</th>'
        + "".join(f"<td>{_cell(arm, metric)}</td>" for metric in METRICS)
        + "</tr>"
        for arm in run.results.arms
    )
    seeds = len(run.results.seeds)
    note = f"means over {seeds} seeds, ± their standard deviation" if seeds > 1 else "one seed"
    heading = f"<h3>{escape(run.label)}</h3>" if run.label else ""
    lines = []
    for verdict in verdicts(run.results):
        state, word = {
            True: ("holds", "holds"),
            False: ("fails", "fails"),
            None: ("open", "not run"),
        }[verdict.holds]
        lines.append(
            f'<li class="{state}">{escape(verdict.claim)}: <b>{word}</b>.'
            f"<br>{escape(verdict.numbers)}</li>"
        )
    return (
        f"{heading}<p>Held-out test conversations, {note}. Less is better for SVR and S-DCG.</p>"
        f'<div class="scroll" tabindex="0"><table class="numbers"><thead><tr><td></td>{head}</tr>'
        f'</thead><tbody>{rows}</tbody></table></div><ol class="verdicts">{"".join(lines)}</ol>'
    )


def _cell(arm: ArmResult, metric: str) -> str:
    mean, spread = arm.mean(metric), arm.spread(metric)
    if np.isnan(mean):
        return "-"
    digits = 2 if metric == "list_length" else 4
    note = "" if np.isnan(spread) else f'<span class="spread">±{spread:.{digits}f}</span>'
    return f"{mean:.{digits}f}{note}"


def _pareto(runs: Sequence[Run]) -> str:
    dots = []
    for run in runs:
        for arm in run.results.arms:
            x, y = arm.mean("svr@10"), arm.mean("recall@10")
            if np.isnan(x) or np.isnan(y):
                continue
            pairs = zip(arm.values["svr@10"], arm.values["recall@10"])
            seeds = [pair for pair in pairs if not np.isnan(pair).any()]
            dots.append(
                Dot(run.key(arm.name), run.name(arm.title), _style(arm.name), x, y,
                    seeds if len(seeds) > 1 else ())
            )  # fmt: skip
    chart = scatter_chart(
        "Upper left is better; the dotted line joins the arms that no other one beats",
        dots,
        x_label="SVR@10",
        y_label="Recall@10",
    )
    return chart and _legend(runs) + chart


def _traits(run: Run) -> str:
    rows: dict[str, list[float | None]] = {}
    traits = sorted(
        {
            trait
            for by_seed in run.scores.values()
            for summary in by_seed.values()
            for trait in summary["splits"].get("trait", {})
        }
    )
    for trait in traits:
        for arm in run.results.arms:
            parts = [s["splits"].get("trait", {}).get(trait) for s in run.scores[arm.name].values()]
            means = [part["metrics"]["svr@10"]["mean"] for part in parts if part is not None]
            known = [mean for mean in means if mean is not None]
            rows.setdefault(trait, []).append(float(np.mean(known)) if known else None)
    if not rows:
        return ""
    heading = f"<h3>{escape(run.label)}</h3>" if run.label else ""
    note = "<p>SVR@10 over the test conversations of users with each sensitivity.</p>"
    return heading + note + heat_map(rows, [arm.title for arm in run.results.arms])


def _legend(runs: Sequence[Run]) -> str:
    buttons = [
        f'<button type="button" class="{_style(arm.name)}" aria-pressed="true" '
        f'data-key="{escape(run.key(arm.name))}">{escape(run.name(arm.title))}</button>'
        for run in runs
        for arm in run.results.arms
    ]
    return f'<div class="legend" role="group" aria-label="Arms shown">{"".join(buttons)}</div>'


def _charts(runs: Sequence[Run], columns: Mapping[str, str]) -> str:
    charts = [
        line_chart(title, [_series(run, arm, column) for run in runs for arm in run.arms])
        for title, column in columns.items()
    ]
    drawn = "".join(charts)
    return drawn and f'{_legend(runs)}<div class="charts">{drawn}</div>'


def _series(run: Run, arm: Trained, column: str) -> Series:
    name = arm.result.name
    lines = [
        [(row["step"], row[column]) for row in rows if column in row] for rows in arm.rows.values()
    ]
    return Series(
        key=run.key(name),
        label=run.name(arm.result.title),
        style=_style(name),
        runs=[line for line in lines if line],
        dashed=run.dashed,
    )


def _distributions(runs: Sequence[Run]) -> str:
    """Histograms over the kept groups, of the advantages and of every reward."""
    styles = {run.name(arm.title): _style(arm.name) for run in runs for arm in run.results.arms}

    def gather(pick: Callable[[Mapping[str, Any]], Any]) -> dict[str, list[float]]:
        found = {}
        for run in runs:
            for arm in run.arms:
                groups = [pick(sample) for kept in arm.samples.values() for sample in kept]
                numbers = [np.ravel(np.array(group, dtype=np.float64)) for group in groups]
                flat = np.concatenate(numbers) if numbers else np.zeros(0)
                found[run.name(arm.result.title)] = flat[~np.isnan(flat)].tolist()
        return found

    names = {name for run in runs for arm in run.arms for kept in arm.samples.values()
             for sample in kept for name in sample["rewards"]}  # fmt: skip
    charts = [histogram("advantages", gather(lambda sample: sample["advantages"]), styles)]
    for name in sorted(names):
        values = gather(lambda sample, name=name: sample["rewards"].get(name, []))
        charts.append(histogram(f"{name} reward", values, styles))
    drawn = "".join(charts)
    return drawn and (
        "<p>Over the groups that the run kept as samples, all steps together.</p>"
        f'<div class="charts">{drawn}</div>'
    )


def _samples(runs: Sequence[Run]) -> str:
    options, articles = [], []
    for run in runs:
        for arm in run.arms:
            for seed, kept in list(arm.samples.items())[:1]:
                for sample in kept:
                    key = f"{run.key(arm.result.name)}/{seed}/{sample['step']}"
                    label = f"{run.name(arm.result.title)}, seed {seed}, step {sample['step']}"
                    options.append(f'<option value="{escape(key)}">{escape(label)}</option>')
                    articles.append(sample_article(sample, run.oracle, key=key))
    if not articles:
        return ""
    bare = any(run.oracle is None for run in runs)
    note = (
        "<p>The run's own data set was not found beside it, so only the ground truth that was "
        "removed for safety is marked as violating.</p>" if bare else ""
    )  # fmt: skip
    return (
        f"<p>Groups that the first seed sampled while training, best advantage first.</p>{note}"
        '<div class="controls"><label for="sample-choice">Group</label>'
        f'<select id="sample-choice">{"".join(options)}</select>'
        '<button type="button" id="sample-before">Previous</button>'
        f'<button type="button" id="sample-after">Next</button></div>{"".join(articles)}'
    )


__all__ = ["CURVES", "DIAGNOSTICS", "write_report"]
