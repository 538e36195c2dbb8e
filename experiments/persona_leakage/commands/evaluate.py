"""`evaluate`: a model that remembers a user answers published requests, and a judge reads it.

OUT/seed-SEED/NAME/ has the answers and scores of one model, so that a model is to tables and pages
what an arm of a run is. The same command goes on after a stop.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import arg

from experiments.common.chats.cache import Store, cached, open_store
from experiments.common.chats.model import Limits, Model
from experiments.common.files.json_rows import read_json
from experiments.common.judges.endpoint_options import open_judge_model
from experiments.common.report.evaluations import (
    check_name,
    conclude,
    scored_names,
    tell_failures,
    told_bill,
)
from experiments.common.report.runs import Section
from experiments.common.report.tables import group_table
from experiments.common.runs.chat_models import ModelOptions, check_draws, open_chat_model
from experiments.common.runs.experiment import Experiment
from experiments.common.scores.results import seed_folders
from experiments.persona_leakage.commands.judge_options import JudgeOptions, open_judge
from experiments.persona_leakage.commands.selection import Selection, check_selection, choose
from experiments.persona_leakage.evaluation import Evaluation
from experiments.persona_leakage.evaluation import evaluate as ask_and_judge
from experiments.persona_leakage.evaluation_tables import METRICS, USUAL, Scoring
from experiments.persona_leakage.published.own_labels import agreements, read_own, write_sheet
from experiments.persona_leakage.published.sources import find_files
from gdpo_jax.errors import UserError

__all__ = ["evaluating"]

SECTIONS: Mapping[str, Section] = {
    "Leakage by domain": group_table("query domain", "leaks"),
    "Safety by risk": group_table("risk", "refuses"),
}


def evaluating(experiment: Experiment) -> Callable[..., None]:
    """The command `evaluate` of an experiment, whose trained arms can be the model."""

    def evaluate(
        source: Path,
        out: Path = Path("runs/persona-leakage-evaluation"),
        name: str = "model",
        options: Annotated[ModelOptions, arg(name="")] = ModelOptions(),
        selection: Annotated[Selection, arg(name="")] = Selection(),
        judge: JudgeOptions = JudgeOptions(),
        scoring: Annotated[Scoring, arg(name="")] = USUAL,
        samples: int | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        answer_seed: int = 0,
        together: int | None = None,
        sheet: int | None = None,
        own_labels: Path | None = None,
        baseline: str | None = None,
        bootstrap: int = 10_000,
        level: float = 0.95,
    ) -> None:
        """Ask a model that remembers a user on PersistBench, CIMemories or U-SafeBench.

        Args:
            source: folder of one of the data sets, or one of its files.
            out: folder of the evaluation, whose report.html is written; the same command goes on
                after a stop, and other names, judges and answer seeds join what is there.
            name: what tables call the model; another one for each model of a folder.
            judge: who judges.
            samples: answers of each request; as published unless given (PersistBench 3, of benefit
                1, CIMemories 5, U-SafeBench 1). Violation grows with it and with the tasks.
            max_new_tokens: tokens of an answer, at most; 1024 unless given, of U-SafeBench 256.
            temperature: of the answers; 1 unless given, of U-SafeBench 0.
            answer_seed: of the draws; several seeds in one folder are averaged.
            together: requests under way at an endpoint (8 unless given), or prompts that a local
                model answers in one batch (1 unless given).
            sheet: writes so many judged answers to the model's folder as sheet.csv, for people to
                label.
            own_labels: such a sheet with labels; prints how far the judge agrees with them.
            baseline: the name that every other one is compared with; the first one there unless
                given.
            bootstrap: resamples for intervals and p values.
            level: of the confidence intervals.
        """
        check_name(name)
        check_draws(together=together, answer_seed=answer_seed)
        for option, value in (("samples", samples), ("sheet", sheet)):
            if value is not None and value < 1:
                raise UserError(f"--{option} {value}; give at least 1")
        benchmark, files = find_files(source)
        check_selection(selection, benchmark)
        if benchmark.name != "PersistBench" and scoring != USUAL:
            raise UserError(
                f"--benefit-passes and --benefit-over belong to PersistBench, and {source} is "
                f"{benchmark.name}; leave them out"
            )
        if selection.labels == "votes" and judge.by != "rubric":
            raise UserError("--labels votes are of the model that judges; give --judge.by rubric")
        own = {} if own_labels is None else read_own(own_labels)
        judging = open_judge(judge, tuple(benchmark.samples))
        model = open_chat_model(options, experiment, together=together)
        limits = Limits(
            max_new_tokens=benchmark.max_new_tokens if max_new_tokens is None else max_new_tokens,
            temperature=benchmark.temperature if temperature is None else temperature,
            seed=answer_seed,
        )
        counts = benchmark.samples if samples is None else dict.fromkeys(benchmark.samples, samples)
        with contextlib.ExitStack() as stack:
            # One file for all models of the folder: what is labelled does not depend on them.
            chosen = choose(
                selection, benchmark, files, lambda: _voter(judge, out / "votes.sqlite", stack)
            )
        folder, console = out / f"seed-{answer_seed}" / name, Console(soft_wrap=True)
        found = ask_and_judge(
            folder,
            chosen.requests,
            samples=counts,
            model=model,
            judging=judging,
            limits=limits,
            scoring=scoring,
            about=chosen.about,
        )
        line = f"{name}: {len(found.outcomes)} requests, {told_bill(found.paid)}"
        console.print(line, highlight=False, markup=False)
        if sheet is not None:
            written = write_sheet(folder / "sheet.csv", found.units(), sheet)
            console.print(f"{written} rows to label: {folder / 'sheet.csv'}", markup=False)
        for line in _agreed(found, own, level):
            console.print(line, highlight=False, markup=False)
        names, others = _comparable(out, folder)
        for other in others:
            line = f"{other} was asked, judged or scored otherwise and is in no table; run it again"
            console.print(line, style="yellow", highlight=False, markup=False)
        conclude(
            experiment.title,
            out,
            console,
            arms=[(each, each) for each in names],
            metrics=METRICS,
            sections=SECTIONS,
            baseline=baseline,
            bootstrap=bootstrap,
            level=level,
        )
        tell_failures(found.failures, console)

    return evaluate


def _voter(judge: JudgeOptions, path: Path, stack: contextlib.ExitStack) -> Model:
    """The model that judges, whose votes are kept in a file as long as the stack is open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store: Store = stack.enter_context(contextlib.closing(open_store(path)))
    return cached(open_judge_model(judge), store)


def _agreed(found: Evaluation, own: Mapping[str, Any], level: float) -> Iterator[str]:
    """Lines on how far the judge agrees with people, by part."""
    if not own:
        return
    for part, one in agreements(found.units(), own, level=level).items():
        low, high = one.interval
        yield (
            f"{part}: the judge agrees with {one.accuracy:.3f} ({low:.2f}-{high:.2f}) of "
            f"{one.cases} own labels, kappa {one.kappa:.3f}"
        )


def _comparable(out: Path, mine: Path) -> tuple[list[str], list[str]]:
    """The names whose folders were all asked, judged and scored as this one, and the others."""
    fields = ("requests", "samples", "judge", "scoring", "about")

    def settings(folder: Path) -> Sequence[Any]:
        stored = read_json(folder / "settings.json")
        return [stored.get(field) for field in fields] if isinstance(stored, dict) else []

    own = settings(mine)
    names, others = [], []
    for name in scored_names(out):
        folders = [f / name for _, f in seed_folders(out) if (f / name / "scores.json").is_file()]
        alike = all(settings(folder) == own for folder in folders)
        (names if alike else others).append(name)
    return names, others
