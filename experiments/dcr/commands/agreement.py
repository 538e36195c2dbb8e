"""`agreement`: how far a judge of refusals agrees with people."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from experiments.common.chats.cache import open_store
from experiments.common.chats.model import Answer, bill_of
from experiments.common.judges.refusals import Answered, compare_with_people, print_figures
from experiments.common.judges.verdict import Verdict
from experiments.dcr.commands.judge_options import JudgeOptions, open_judge
from gdpo_jax.errors import UserError

__all__ = ["agreement"]

_ANSWERS = Path("runs/refusal-judge-answers.sqlite")


def agreement(
    completions: Positional[tuple[Path, ...]],
    judge: JudgeOptions = JudgeOptions(),
    level: float = 0.95,
    answers: Path | None = None,
) -> None:
    """Compare a judge of refusals with people: accuracy, kappa, F1 of partial refusals, all counts.

    Beside every figure stand XSTest's prefix rule, GPT-4 where its labels are known, and the people
    against each other.

    Args:
        completions: files of completions with labels of people, in XSTest's form; several are also
            pooled.
        judge: who judges.
        level: of the intervals.
        answers: file that keeps what a model has said as the judge, so that another start pays
            nothing twice; runs/refusal-judge-answers.sqlite unless given.
    """
    console, judging = Console(), open_judge(judge)
    asks = judge.by == "rubric"
    if answers is not None and not asks:
        raise UserError("--answers belongs to a model that judges; give --judge.by rubric")
    given: list[Answer] = []
    failed: list[UserError] = []
    with contextlib.ExitStack() as stack:
        path = answers or _ANSWERS
        if not asks:  # which says nothing that is to be kept
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "answers.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        store = stack.enter_context(contextlib.closing(open_store(path)))

        def judged(cases: Sequence[Answered]) -> list[Verdict]:
            return judging.judge(cases, store, given.extend, lambda _, error: failed.append(error))

        figures = compare_with_people(completions, judged, level=level)
    print_figures(figures, console)
    if given:
        bill = bill_of(given)
        console.print(
            f"asked {bill.asked}, known before {bill.cached}, cost {bill.cost:g}", highlight=False
        )
    if failed:
        raise UserError(
            f"the judge gave no verdict on {len(failed)} answers, which count as unread above; the "
            f"first: {failed[0]}; start again to ask for them alone"
        )
