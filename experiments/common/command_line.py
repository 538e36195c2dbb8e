"""The command line of an experiment: one record in, its commands out.

sys.exit(main(EXPERIMENT, {"data": data}))
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console
from tyro.conf import arg
from tyro.extras import literal_type_from_choices

from experiments.common.report.report import report as write_report
from experiments.common.report.runs import load_runs
from experiments.common.runs.experiment import Data, Experiment, NoOptions
from experiments.common.runs.folder import Workspace
from experiments.common.runs.options import Invocation, first_preset, unset
from experiments.common.runs.pipeline import (
    evaluate_arms,
    generate,
    measure,
    score_arm,
    train_arm,
)
from experiments.common.runs.processes import (
    answers_apart,
    evaluate_apart,
    most_processes,
    work,
)
from experiments.common.runs.terminal import print_stages, tell_on
from experiments.common.scores.claims import hold
from experiments.common.scores.results import Results, assemble, collect
from experiments.common.scores.results_file import write_results
from experiments.common.scores.results_tables import print_table, print_verdicts
from experiments.common.scores.summaries import write_json
from experiments.common.scores.table import Table
from gdpo_jax.commands.running import run_command
from gdpo_jax.errors import UserError

__all__ = ["Data", "Experiment", "NoOptions", "main", "training"]


def main(
    experiment: Experiment,
    extra_commands: Mapping[str, Callable[..., Any]] | None = None,
    arguments: Sequence[str] | None = None,
    *,
    description: str | None = None,
) -> int:
    """Runs one command of the experiment; returns the exit status.

    extra_commands: functions by name, which stand before those that every experiment has.
    arguments: those of the process unless given.
    """
    commands = {
        **(extra_commands or {}),
        "train": training(experiment),
        "answer": _answering(experiment),
        "reproduce": _reproducing(experiment),
        "report": _reporting(experiment),
        "work": _working(experiment),
    }
    prog = experiment.command()
    given = None if arguments is None else list(arguments)
    return run_command(commands, given, prog=prog, description=description or experiment.title)


def training(
    experiment: Experiment,
    *,
    arms: Sequence[str] = (),
    default: str | None = None,
    about: str = "Train and score an arm, and first the arms it starts from.",
) -> Callable[..., None]:
    """A command that trains and scores one of the arms (all of them unless given)."""
    names = tuple(arms) or tuple(arm.name for arm in experiment.compared)
    plain, own_plain, ArmName = unset(experiment, names)

    def train(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        arm: Annotated[ArmName, arg(help="Which arm.")] = default or names[-1],
        seed: Annotated[int, arg(help="Of initial values, data order and sampling.")] = 0,
    ) -> None:
        run = Invocation(experiment, options, own)
        if run.planned():
            return
        space, chosen = run.open(), experiment.arm(arm)
        tell = tell_on(Console(), experiment.metrics, [chosen])
        evaluate_arms(space, [chosen], seed, tell=tell)
        _say(f"outputs and scores are in {space.arm_dir(arm, seed)}")

    train.__doc__ = about
    return train


def _answering(experiment: Experiment) -> Callable[..., None]:
    names = tuple(arm.name for arm in experiment.compared)
    plain, own_plain, ArmName = unset(experiment, names)
    Split = literal_type_from_choices(("validation", "test"))

    def answer(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        arm: ArmName = names[-1],
        seed: int = 0,
        split: Split = "test",
        temperature: float = 0.0,
    ) -> None:
        """Answer a split with an arm and score the answers.

        Args:
            arm: the arm, which is trained first if it is not.
            seed: of the arm.
            split: records to answer.
            temperature: 0 takes the most likely token each time.
        """
        run = Invocation(experiment, options, own)
        if run.planned():
            return
        space, chosen = run.open(), experiment.arm(arm)
        trained, records = train_arm(space, chosen, seed), space.data.records[split]
        texts = generate(space, chosen, trained, records, temperature=temperature, seed=seed)
        folder = space.arm_dir(arm, seed) / f"answers-{split}-{temperature:g}"
        columns = measure(space, trained, records)
        table = score_arm(space, texts, records, folder, columns=columns)
        if jax.process_index() == 0:
            print_table(_alone(experiment, chosen.title, table, str(folder)), Console())
        _say(f"outputs and scores are in {folder}")

    return answer


def _reproducing(experiment: Experiment) -> Callable[..., None]:
    names = tuple(arm.name for arm in experiment.compared)
    plain, own_plain, ArmName = unset(experiment, names)

    def reproduce(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        seeds: int = 1,
        arms: tuple[ArmName, ...] = names,
        baseline: ArmName | None = None,
        processes: int | None = None,
        bootstrap: int = 10_000,
    ) -> None:
        """Train and score all arms, then print the tables and write the report.

        Args:
            seeds: how many seeds, from 0 on.
            arms: which arms.
            baseline: the arm that every other one is compared with; the first unless given.
            processes: arms that are trained side by side, each with a share of the CPU's cores; 2
                unless given for new policies on a CPU, 1 on accelerators, on several devices and
                for published models.
            bootstrap: resamples for intervals and p values.
        """
        run = Invocation(experiment, options, own)
        counts = {"seeds": seeds, "processes": processes, "bootstrap": bootstrap}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise UserError(f"--{name} must be at least 1, got {value}")
        if (processes or 1) > 1 and not run.program():
            raise UserError("--processes needs the experiment as the program that was started")
        if run.planned():
            return
        space, console = run.open(), Console()
        chosen = [arm for arm in experiment.compared if arm.name in arms]
        count = processes or _processes(run, space)
        print_stages(space, chosen, seeds, console, processes=count)
        tell = tell_on(console, experiment.metrics, chosen)
        if count > 1:
            command = [*run.program(), "work", *run.same()]
            options = {"processes": count, "command": command, "tell": tell, "console": console}
            evaluate_apart(space, chosen, seeds, **options)
        else:
            for seed in range(seeds):
                evaluate_arms(space, chosen, seed, tell=tell)
        if jax.process_index() == 0:
            page = run.folder / "report.html"
            _conclude(experiment, (run.folder,), page, baseline=baseline, bootstrap=bootstrap)
            _say_next(run, seeds)

    return reproduce


def _working(experiment: Experiment) -> Callable[..., None]:
    plain, own_plain, _ = unset(experiment, [arm.name for arm in experiment.compared])

    def serve(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        cores: tuple[int, ...] = (),
    ) -> None:
        """Train the arms that standard input names, a line each; reproduce --processes starts it.

        Args:
            cores: of the CPU that it may use; all unless given.
        """
        if cores:
            os.sched_setaffinity(0, cores)
        with answers_apart() as answers:
            work(Invocation(experiment, options, own).open(), sys.stdin, answers)

    return serve


def _processes(run: Invocation, space: Workspace) -> int:
    """How many processes train the arms unless the user says."""
    if not run.program():
        return 1
    alone = jax.process_count() == 1 and jax.device_count() == 1
    small = jax.default_backend() == "cpu" and space.preset.pretrained is None
    return min(2, most_processes()) if alone and small else 1


def _reporting(experiment: Experiment) -> Callable[..., None]:
    _, _, ArmName = unset(experiment, [arm.name for arm in experiment.compared])

    def report(
        runs: tyro.conf.Positional[tuple[Path, ...]],
        out: Path | None = None,
        baseline: ArmName | None = None,
        bootstrap: int = 10_000,
        level: float = 0.95,
    ) -> None:
        """Print the tables of finished runs and write one self-contained HTML page.

        Args:
            runs: run folders; each gets its results.json written anew.
            out: the page; report.html in the first run folder unless given.
            baseline: the arm that every other one is compared with; the first unless given.
            bootstrap: resamples for intervals and p values.
            level: level of the confidence intervals.
        """
        if not runs:
            raise UserError(
                f"name at least one run folder, such as runs/{first_preset(experiment)}"
            )
        page, options = out or runs[0] / "report.html", {"bootstrap": bootstrap, "level": level}
        _conclude(experiment, runs, page, baseline=baseline, **options)

    return report


def _alone(experiment: Experiment, title: str, table: Table, source: str) -> Results:
    return assemble(
        {title: {0: table}}, titles={title: title}, source=source, metrics=experiment.metrics
    )


def _conclude(experiment: Experiment, folders: Sequence[Path], page: Path, **options: Any) -> None:
    arms = [(arm.name, arm.title) for arm in experiment.compared]
    metrics, claims = experiment.metrics, experiment.claims
    results = [collect(path, arms=arms, metrics=metrics, **options) for path in folders]
    for path, found in zip(folders, results):
        verdicts = hold(claims, found)
        write_results(found, path / "results.json", verdicts=verdicts)
        print_table(found, Console())
        print_verdicts(verdicts, Console())
    names = [name for name, _ in arms]
    runs = load_runs(folders, results, arms=names, claims=claims)
    _say(f"report: {write_report(experiment.title, runs, experiment.sections, page)}")
    for run in runs:
        for name, made in experiment.files.items():
            write_json(run.path / name, made(run))


def _say_next(run: Invocation, seeds: int) -> None:
    experiment, folder, same = run.experiment, run.folder, run.same()
    last = experiment.compared[-1].name
    _say("next:")
    _say("  " + experiment.command("reproduce", *same, "--seeds", str(max(2 * seeds, 5))))
    _say("  " + experiment.command("answer", *same, "--arm", last, "--temperature", "1"))
    _say("  " + experiment.command("report", str(folder), "--baseline", last))


def _say(line: str) -> None:
    if jax.process_index() == 0:
        Console(soft_wrap=True).print(line, highlight=False, markup=False)
