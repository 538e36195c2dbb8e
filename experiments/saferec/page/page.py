"""One self-contained HTML page about finished runs: opens offline, asks the network for nothing.

Claims and tables, recall against violations, every arm against the baseline, violations by
sensitivity, curves over training, the spread of rewards and advantages, and the sampled groups to
read. Several runs stand side by side.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from experiments.common.report.page import write_page
from experiments.common.report.runs import Run, folder_name, heading, load_runs
from experiments.common.scores.claims import hold
from experiments.common.scores.results import Results, collect
from experiments.saferec.arms import ARMS
from experiments.saferec.claims import CLAIMS
from experiments.saferec.metrics import METRICS
from experiments.saferec.page.charts import (
    CURVES,
    DIAGNOSTICS,
    curves,
    differences,
    disclosure,
    distributions,
    pareto,
)
from experiments.saferec.page.samples import sample_browser
from experiments.saferec.page.tables import results_tables, trait_table
from gdpo_jax.errors import UserError


def collect_arms(run_dir: Path, **options) -> Results:
    """The scored arms of a run folder; `options` as in `collect`."""
    arms = [(arm.name, arm.title) for arm in ARMS]
    return collect(run_dir, arms=arms, metrics=METRICS, **options)


def write_report(
    run_dirs: Sequence[Path], out: Path, *, results: Sequence[Results] | None = None
) -> Path:
    """Writes the page about the run folders to `out` and returns `out`.

    `results` are those of the folders, collected anew unless given. Raises UserError if a folder
    holds no scored arm or a file in it cannot be read.
    """
    if not run_dirs:
        raise UserError("name at least one run folder for the report")
    results = [collect_arms(path) for path in run_dirs] if results is None else results
    runs = load_runs(run_dirs, results)
    sections = {
        "Claims": "".join(_claims(run) for run in runs),
        "Results": "".join(heading(run) + results_tables(run) for run in runs),
        "Trade-off": pareto(runs),
        "Differences": differences(runs),
        "Said or hinted": disclosure(runs),
        "Sensitivities": "".join(trait_table(run) for run in runs),
        "Learning curves": curves(runs, CURVES),
        "Distributions": distributions(runs),
        "Diagnostics": curves(runs, DIAGNOSTICS),
        "Samples": sample_browser(runs),
    }
    title = "SafeRec: " + ", ".join(
        run.label or folder_name(Path(run.results.source)) for run in runs
    )
    return write_page(title, sections, out, intro=_intro(runs))


def _intro(runs: Sequence[Run]) -> str:
    lines = []
    for run in runs:
        seeds = len(run.results.seeds)
        facts = (
            f"{len(run.results.arms)} arms",
            f"{seeds} seeds" if seeds > 1 else "one seed",
            f"{run.results.items} test conversations",
        )
        name = f"{run.label}: " if run.label else ""
        lines.append(f'<p class="lead">{escape(name + ", ".join(facts))}</p>')
    return "".join(lines)


def _claims(run: Run) -> str:
    words = {True: ("holds", "holds"), False: ("fails", "fails"), None: ("open", "not run")}
    items = []
    for verdict in hold(CLAIMS, run.results):
        state, word = words[verdict.holds]
        items.append(
            f'<li class="{state}">{escape(verdict.text)}: <b>{word}</b>.'
            f'<br><span class="quiet">{escape(verdict.numbers)}</span></li>'
        )
    return f'{heading(run)}<ol class="verdicts">{"".join(items)}</ol>'


__all__ = ["collect_arms", "write_report"]
