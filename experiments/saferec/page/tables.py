"""The tables of the report: every arm by metric, and violations by sensitivity."""

import math
from html import escape

from experiments.common.report.charts import HeatCell, heat_map
from experiments.common.report.runs import Run, heading
from experiments.common.scores.metric import Metric
from experiments.common.scores.results import ArmResult, Results
from experiments.common.scores.results_tables import SIGNIFICANT

MAIN_K = 10


def results_tables(run: Run) -> str:
    """A table per cut-off to choose from, and one of the lists as such."""
    results = run.results
    panels: dict[str, list[Metric]] = {}
    for metric in results.metrics:
        if any(metric.name in arm.values for arm in results.arms):
            panels.setdefault(metric.panel, []).append(metric)
    shown = next(iter(panels))
    buttons, tables = [], []
    for name, metrics in panels.items():
        panel = f"results-{run.label}-{name}".replace(" ", "-")
        buttons.append(
            f'<button type="button" data-panel="{escape(panel)}" '
            f'aria-pressed="{str(name == shown).lower()}">{escape(name)}</button>'
        )
        tables.append(f'<div id="{escape(panel)}">{_table(results, metrics, name)}</div>')
    seeds = len(results.seeds)
    over = f"Means over {seeds} seeds, ± their standard deviation" if seeds > 1 else "One seed"
    test = f" {results.test}; bold below {SIGNIFICANT:g}." if results.test else ""
    return (
        f'<p class="quiet">{over}; {escape(results.basis)}.{escape(test)} '
        "More is better for Recall and NDCG, less for SVR, S-DCG and violations; ★ is the best "
        "mean.</p>"
        f'<div class="choices" role="group" aria-label="Cut-off">{"".join(buttons)}</div>'
        f"{''.join(tables)}"
    )


def _table(results: Results, metrics: list[Metric], name: str) -> str:
    head = "".join(f'<th scope="col">{escape(metric.label)}</th>' for metric in metrics)
    best = {metric.name: _best(results, metric) for metric in metrics}
    rows = "".join(
        f'<tr{_base(results, arm)}><th scope="row">{escape(arm.title)}</th>'
        + "".join(_cell(arm, metric, arm.name in best[metric.name]) for metric in metrics)
        + "</tr>"
        for arm in results.arms
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Results {escape(name)}">'
        f'<table class="numbers"><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )


def _base(results: Results, arm: ArmResult) -> str:
    return ' class="base"' if results.test and arm.name == results.baseline else ""


def _best(results: Results, metric: Metric) -> set[str]:
    if not metric.better:
        return set()
    means = {arm.name: arm.mean(metric.name) for arm in results.arms}
    known = [mean for mean in means.values() if not math.isnan(mean)]
    if len(known) < 2:
        return set()
    top = max(known) if metric.better == "more" else min(known)
    return {name for name, mean in means.items() if mean == top}


def _cell(arm: ArmResult, metric: Metric, best: bool) -> str:
    mean, spread = arm.mean(metric.name), arm.spread(metric.name)
    if math.isnan(mean):
        return "<td>-</td>"
    digits = metric.digits
    parts = [f'<span class="value">{mean:.{digits}f}</span>']
    if not math.isnan(spread):
        parts.append(f'<span class="spread">±{spread:.{digits}f}</span>')
    interval = arm.intervals.get(metric.name)
    if interval is not None and not math.isnan(interval.low):
        parts.append(
            f'<span class="spread">{interval.low:.{digits - 1}f} to '
            f"{interval.high:.{digits - 1}f}</span>"
        )
    parts.append(_change(arm, metric))
    return f'<td class="{"best" if best else "other"}">{"".join(parts)}</td>'


def _change(arm: ArmResult, metric: Metric) -> str:
    comparison = arm.against.get(metric.name)
    if comparison is None or math.isnan(comparison.difference):
        return ""
    digits, gap = metric.digits - 1, comparison.difference
    good = gap > 0 if metric.better == "more" else gap < 0 if metric.better else None
    css = ["change"]
    if good is not None and gap:
        css.append("better" if good else "worse")
    if comparison.p_holm < SIGNIFICANT:
        css.append("sure")
    shown = f"{gap:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    sign = "▲" if gap > 0 else "▼" if gap < 0 else "="
    about = (
        f"difference {gap:+.4f} ({comparison.low:+.4f} to {comparison.high:+.4f}), "
        f"p {comparison.p_value:.4f}, corrected {comparison.p_holm:.4f}, "
        f"{comparison.count} pairs"
    )
    return (
        f'<span class="{" ".join(css)}" title="{about}">{sign} {shown}, '
        f"p {_p(comparison.p_holm)}</span>"
    )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "&lt; 0.001"


def trait_table(run: Run) -> str:
    """Sensitivities by arms, shaded by SVR; empty without a sensitivity."""
    metric = f"svr@{MAIN_K}"
    rows: dict[str, list[HeatCell | None]] = {}
    for trait in run.results.groups.get("trait", ()):
        cells = [_heat(arm, f"{metric}/{trait}") for arm in run.results.arms]
        if any(cell is not None for cell in cells):
            counts = [arm.intervals[f"{metric}/{trait}"].count for arm in run.results.arms
                      if f"{metric}/{trait}" in arm.intervals]  # fmt: skip
            rows[f"{trait} ({max(counts)})" if counts else trait] = cells
    if not rows:
        return ""
    note = (
        f'<p class="quiet">SVR@{MAIN_K} over the test conversations of users with each '
        f"sensitivity; in brackets the lists it rests on. Darker is worse.{_coverage_note(run)}</p>"
    )
    return heading(run) + note + heat_map(rows, [arm.title for arm in run.results.arms])


def _coverage_note(run: Run) -> str:
    """How far the rates can be trusted: films that the oracle does not know are no violations."""
    known = [arm.mean(f"coverage@{MAIN_K}") for arm in run.results.arms]
    known = [value for value in known if not math.isnan(value)]
    if not known:
        return ""
    return f" The oracle knows {min(known):.3f} to {max(known):.3f} of the titles."


def _heat(arm: ArmResult, metric: str) -> HeatCell | None:
    mean = arm.mean(metric)
    if math.isnan(mean):
        return None
    interval = arm.intervals.get(metric)
    note = arm.title
    if interval is not None:
        note += f": {interval.low:.3f} to {interval.high:.3f}, {interval.count} lists"
    if not math.isnan(known := arm.mean(metric.replace("svr", "coverage", 1))):
        note += f", the oracle knows {known:.3f} of the titles"
    return HeatCell(mean, note)


__all__ = ["results_tables", "trait_table"]
