"""`evaluate`: a model answers prompts that should be answered, or not, and a judge reads it.

OUT/seed-SEED/NAME/ has the answers and scores of one model, so that a model is to tables and pages
what an arm of a run is. The same command goes on after a stop.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from experiments.common.chats.model import Limits
from experiments.common.report.evaluations import (
    check_name,
    conclude,
    scored_names,
    tell_failures,
    told_bill,
)
from experiments.common.runs.chat_models import ModelOptions, check_draws, open_chat_model
from experiments.common.runs.experiment import Experiment
from experiments.dcr.commands.judge_options import JudgeOptions, open_judge
from experiments.dcr.commands.selection import Selection, choose
from experiments.dcr.evaluation import LIMITS, METRICS
from experiments.dcr.evaluation import evaluate as ask_and_judge
from experiments.dcr.page.sections import EVALUATION_SECTIONS

__all__ = ["evaluating"]


def evaluating(experiment: Experiment) -> Callable[..., None]:
    """The command `evaluate` of an experiment, whose trained arms can be the model."""

    def evaluate(
        out: Path = Path("runs/dcr-evaluation"),
        name: str = "model",
        options: Annotated[ModelOptions, arg(name="")] = ModelOptions(),
        selection: Annotated[Selection, arg(name="")] = Selection(),
        judge: JudgeOptions = JudgeOptions(),
        max_new_tokens: int = LIMITS.max_new_tokens,
        temperature: float = LIMITS.temperature,
        answer_seed: int = 0,
        together: int | None = None,
        baseline: str | None = None,
        bootstrap: int = 10_000,
        level: float = 0.95,
    ) -> None:
        """Ask a model, judge its answers, and count compliance and refusals by set and type.

        Args:
            out: folder of the evaluation, whose report.html is written; the same command goes on
                after a stop, and other names, judges and answer seeds join what is there.
            name: what tables call the model; another one for each model of a folder.
            judge: who judges.
            max_new_tokens: tokens of an answer, at most.
            temperature: of the answers; 0 takes the most likely token each time.
            answer_seed: of the draws; several seeds in one folder are averaged.
            together: requests under way at an endpoint (8 unless given), or prompts that a local
                model answers in one batch (1 unless given).
            baseline: the name that every other one is compared with; the first one there unless
                given.
            bootstrap: resamples for intervals and p values.
            level: of the confidence intervals.
        """
        check_name(name)
        check_draws(together=together, answer_seed=answer_seed)
        judging, console = open_judge(judge), Console(soft_wrap=True)
        prompts, removed = choose(selection)
        for (kept, lost), count in removed.items():
            line = f"{count} prompts of {lost} are in {kept} too, and count once"
            console.print(line, highlight=False, markup=False)
        found = ask_and_judge(
            out / f"seed-{answer_seed}" / name,
            prompts,
            model=open_chat_model(options, experiment, together=together),
            judging=judging,
            limits=Limits(max_new_tokens=max_new_tokens, temperature=temperature, seed=answer_seed),
        )
        line = f"{name}: {len(prompts)} prompts, {told_bill(found.paid)}"
        console.print(line, highlight=False, markup=False)
        conclude(
            experiment.title,
            out,
            console,
            arms=[(scored, scored) for scored in scored_names(out)],
            metrics=METRICS,
            sections=EVALUATION_SECTIONS,
            baseline=baseline,
            bootstrap=bootstrap,
            level=level,
        )
        tell_failures(found.failures, console)

    return evaluate
