"""`agreement`: how far a judge agrees with people."""

import contextlib
import tempfile
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from experiments.common.chats.cache import open_store
from experiments.common.chats.model import Answer, bill_of
from experiments.curate.commands.judge_options import JudgeOptions, open_judge
from experiments.curate.judging.human_labels import agree, print_agreement, read_labels
from gdpo_jax.errors import UserError

__all__ = ["agreement"]

_ANSWERS = Path("runs/judge-answers.sqlite")


def agreement(
    labels: Positional[Path],
    judge: JudgeOptions = JudgeOptions(),
    level: float = 0.95,
    answers: Path | None = None,
) -> None:
    """Compare a judge with the labels of people: accuracy, Cohen's kappa, and all counts.

    Args:
        labels: table (CSV) in the form of CURaTe's comparison of judge and people.
        judge: who judges.
        level: of the intervals.
        answers: file that keeps what a model has said as the judge, so that another start pays
            nothing twice; runs/judge-answers.sqlite unless given.
    """
    console, judging = Console(), open_judge(judge)
    if answers is not None and judge.by == "rules":
        raise UserError("--answers belongs to a model that judges; give --judge.by rubric")
    items = read_labels(labels)
    given: list[Answer] = []
    failed: dict[int, UserError] = {}
    with contextlib.ExitStack() as stack:
        path = answers or _ANSWERS
        if judge.by == "rules":  # which says nothing that is to be kept
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "answers.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        store = stack.enter_context(contextlib.closing(open_store(path)))
        raters = agree(
            items,
            lambda judged: judging.judge(judged, store, given.extend, failed.__setitem__),
            level=level,
        )
    console.print(f"{labels}: {len(items)} answers", highlight=False, markup=False)
    print_agreement(raters, console)
    if given:
        bill = bill_of(given)
        console.print(
            f"asked {bill.asked}, known before {bill.cached}, cost {bill.cost:g}", highlight=False
        )
    if failed:
        first = failed[min(failed)]
        raise UserError(
            f"the judge gave no verdict on {len(failed)} answers, which count as unread above; the "
            f"first: {first}; start again to ask for them alone"
        )
