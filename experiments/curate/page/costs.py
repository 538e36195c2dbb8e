"""What the parts of every arm have used, of runs that kept their dialogues."""

from collections.abc import Sequence

from markupsafe import Markup

from experiments.common.report.comparisons import quiet
from experiments.common.report.runs import Run, by_run
from experiments.common.report.tables import table
from experiments.curate.dialogues import Dialogue, total_bills
from experiments.curate.evaluation import read_dialogues
from gdpo_jax.errors import UserError

__all__ = ["costs"]

_COLUMNS = (
    "arm, part",
    "calls a dialogue",
    "prompt tokens a dialogue",
    "answer tokens a dialogue",
    "cost in all",
    "seconds a turn",
    "longest dialogue, seconds",
)


def costs(runs: Sequence[Run]) -> Markup:
    """A section: calls, tokens, cost and waiting by arm and part, all seeds together."""
    shown = by_run(runs, _costs)
    note = quiet(
        "In full, also for answers that an earlier start has paid for; given answers cost nothing. "
        "Seconds are what a dialogue waited for the part: all dialogues of a turn are asked "
        "together, and answers that were known before take no time. The user waits for the talker."
    )
    return shown and note + shown


def _costs(run: Run) -> Markup:
    rows = []
    for arm in run.arms:
        found: list[Dialogue] = []
        for seed in arm.result.seeds:
            try:
                known = read_dialogues(run.path / f"seed-{seed}" / arm.result.name)
            except UserError as error:
                return quiet(f"{error}.")
            found += known.values()
        rows += _rows(arm.result.title, found)
    return table(_COLUMNS, rows, title="") if rows else Markup("")


def _rows(title: str, found: Sequence[Dialogue]) -> list[list[str]]:
    """A row for each part that was asked."""
    bills = total_bills(dialogue.bills for dialogue in found)
    turns = sum(len(dialogue.answers) for dialogue in found)
    rows = []
    for part, bill in bills.items():
        seconds = [dialogue.seconds.get(part, 0.0) for dialogue in found]
        tokens = (bill.prompt_tokens, bill.completion_tokens)
        rows.append(
            [
                f"{title}, {part}",
                f"{bill.asked / len(found):.1f}",
                *(f"{count / len(found):,.0f}" if count else "-" for count in tokens),
                "-" if bill.unpriced else f"{bill.cost:g}",
                f"{sum(seconds) / turns:.2f}" if turns else "-",
                f"{max(seconds):.1f}",
            ]
        )
    return rows
