"""A section: what every safeguard does to leakage, owners and strangers, and what it costs."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from experiments.common.report.charts import Dot, Entry, legend, scatter_chart
from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import quiet
from experiments.common.report.runs import Run, by_run
from experiments.common.report.tables import bounds, table
from experiments.common.scores.comparisons import Comparison, paired_comparison
from experiments.common.scores.summaries import read_summary
from experiments.common.scores.table import Table, pool_seeds
from experiments.persona_leakage.arms import PARTNERS
from experiments.persona_leakage.measures.leakage import selectivity
from experiments.persona_leakage.page.costs import in_words, kept, training_seconds
from gdpo_jax.errors import UserError

__all__ = ["safeguards"]

_PAIRED = ("leakage", "secret_leakage")  # minus the twin's
_PLAIN = ("recall", "secret_recall", "utility")


def safeguards(runs: Sequence[Run]) -> Markup:
    """Arms by paired leakage, recall, use and cost, and recall over paired leakage."""
    shown = by_run(runs, _safeguards)
    note = quiet(
        "Leakage is an arm minus its twin, which never saw half of the users: answers to strangers "
        "with a mark of that half. Who forgets everyone leaks nothing, and gives owners nothing "
        "back; who refuses strangers leaks nothing, and is of no use to them. Selectivity is "
        "recall minus leakage. All seeds together, with intervals over users. What is stored is "
        "what an arm keeps of each user besides the shared parameters; training is the time of the "
        "arm's own steps, without those of the arm it starts from."
    )
    return shown and note + shown


def _safeguards(run: Run) -> Markup:
    twins = set(PARTNERS.values())
    names = [arm.name for arm in run.results.arms if arm.name not in twins]
    try:
        paired = {name: _paired(run, name) for name in names}
        rows = [_row(run, name, paired[name]) for name in names]
    except UserError as error:
        return quiet(f"{error}.")
    known = [m for n in (*_PAIRED, *_PLAIN) for m in run.results.metrics if m.name == n]
    if not known:
        return Markup("")
    labels = {metric.name: metric.label for metric in known}
    columns = [
        "arm",
        *(labels.get(name, name) for name in (*_PAIRED, *_PLAIN)),
        "selectivity",
        "stored",
        "training",
    ]
    return joined([table(columns, rows), _chart(run, paired)])


def _paired(run: Run, name: str) -> Mapping[str, Comparison]:
    """An arm minus its twin over the seeds that both have; empty without a twin."""
    arm, twin = run.results.arm(name), run.results.arm(PARTNERS.get(name, ""))
    seeds = [seed for seed in arm.seeds if twin is not None and seed in twin.seeds]
    if not seeds:
        return {}
    sides = [_pooled(run, one.name, seeds) for one in (twin, arm)]
    return paired_comparison(*sides)


def _pooled(run: Run, name: str, seeds: Sequence[int]) -> Table:
    return pool_seeds(
        {seed: read_summary(run.path / f"seed-{seed}" / name / "scores.json") for seed in seeds}
    )


def _row(run: Run, name: str, paired: Mapping[str, Comparison]) -> list[str]:
    arm, cells = run.results.arm(name), []
    for metric in _PAIRED:
        found = paired.get(metric)
        cells.append("-" if found is None else _shown(found.difference, (found.low, found.high)))
    cells += [_shown(arm.mean(metric), bounds(arm, metric)) for metric in _PLAIN]
    leaked = paired.get("leakage")
    picked = math.nan if leaked is None else selectivity(arm.mean("recall"), leaked.difference)
    seconds = training_seconds(next(one for one in run.arms if one.result.name == name))
    return [
        arm.title,
        *cells,
        _shown(picked, None),
        in_words(kept(run, name)),
        "-" if seconds is None else f"{seconds:.1f} s",
    ]


def _chart(run: Run, paired: Mapping[str, Mapping[str, Comparison]]) -> Markup:
    dots, entries = [], []
    for name, found in paired.items():
        arm = run.results.arm(name)
        if "leakage" not in found or math.isnan(arm.mean("recall")):
            continue
        key, label, style = run.key(name), run.name(arm.title), run.style(name)
        leaked = found["leakage"]
        dots.append(
            Dot(
                key=key,
                label=label,
                style=style,
                x=leaked.difference,
                y=arm.mean("recall"),
                x_interval=None if math.isnan(leaked.low) else (leaked.low, leaked.high),
                y_interval=bounds(arm, "recall"),
            )
        )
        entries.append(Entry(key, label, style))
    title = "recall of owners over leakage to strangers: upper left is better"
    chart = scatter_chart(
        title, dots, x_label="paired leakage", y_label="recall", better=("less", "more")
    )
    return chart and joined([legend(entries), chart])


def _shown(value: float, interval: tuple[float, float] | None) -> str:
    if math.isnan(value):
        return "-"
    text = f"{value:.3f}"
    known = interval is not None and not any(map(math.isnan, interval))
    return f"{text} ({interval[0]:.3f} to {interval[1]:.3f})" if known else text
