"""The command line of an experiment: one record in, its commands out.

sys.exit(main(EXPERIMENT, {"data": data}))
"""

import dataclasses
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
from experiments.common.runs.folder import Workspace, open_workspace
from experiments.common.runs.pipeline import evaluate_arms, generate, score_arm, train_arm
from experiments.common.runs.plan import print_preset_plan
from experiments.common.runs.settings import Preset
from experiments.common.runs.terminal import print_stages, tell_on
from experiments.common.scores.claims import hold
from experiments.common.scores.results import Results, assemble, collect
from experiments.common.scores.results_file import write_results
from experiments.common.scores.results_tables import print_table, print_verdicts
from experiments.common.scores.table import Table
from gdpo_jax.commands.running import mesh_config, run_command
from gdpo_jax.errors import UserError

__all__ = ["Data", "Experiment", "NoOptions", "main", "training"]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options that every command of a run shares."""

    preset: str
    """Data sizes, policy and training settings; each preset's file says what it costs."""
    run_dir: Path | None = None
    """Where everything of the run goes; runs/PRESET unless given. The same folder resumes."""
    data_dir: Path | None = None
    """The data set; RUN_DIR/data unless given."""
    model_dir: Path | None = None
    """The language model to start from: a Hugging Face folder or a GGUF file."""
    mesh: str | None = None
    """Devices as DATAxFSDPxTENSOR, such as 1x8x1; the preset's shape unless given."""
    dry_run: bool = False
    """Compile the steps on shapes alone, print memory, and stop; nothing is read or written."""
    distributed: bool = False
    """Join the other processes of a pod or cluster first (jax.distributed.initialize)."""


@dataclasses.dataclass(frozen=True)
class _Run:
    """An experiment with the options of a command."""

    experiment: Experiment
    options: RunOptions
    own: Any

    @property
    def folder(self) -> Path:
        return self.options.run_dir or Path("runs") / self.options.preset

    def settings(self) -> Preset:
        """The preset with the options applied."""
        preset = self.own.apply(self.experiment.presets[self.options.preset])
        if self.options.mesh is None:
            return preset
        return dataclasses.replace(preset, mesh=mesh_config(self.options.mesh))

    def planned(self) -> bool:
        """Prints the memory of the steps instead, if that was asked for."""
        if self.options.dry_run:
            model_dir = self.options.model_dir
            print_preset_plan(self.experiment, self.settings(), model_dir, Console())
        return self.options.dry_run

    def open(self) -> Workspace:
        """The workspace, built where it is missing."""
        if self.options.distributed:
            jax.distributed.initialize()
        return open_workspace(
            self.experiment,
            self.folder,
            self.settings(),
            data_dir=self.options.data_dir,
            model_dir=self.options.model_dir,
        )


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
    plain, own_plain, ArmName = _unset(experiment, names)

    def train(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        arm: Annotated[ArmName, arg(help="Which arm.")] = default or names[-1],
        seed: Annotated[int, arg(help="Of initial values, data order and sampling.")] = 0,
    ) -> None:
        run = _Run(experiment, options, own)
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
    plain, own_plain, ArmName = _unset(experiment, names)
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
        run = _Run(experiment, options, own)
        if run.planned():
            return
        space, chosen = run.open(), experiment.arm(arm)
        trained, records = train_arm(space, chosen, seed), space.data.records[split]
        texts = generate(space, chosen, trained, records, temperature=temperature, seed=seed)
        folder = space.arm_dir(arm, seed) / f"answers-{split}-{temperature:g}"
        table = score_arm(space, texts, records, folder)
        if jax.process_index() == 0:
            print_table(_alone(experiment, chosen.title, table, str(folder)), Console())
        _say(f"outputs and scores are in {folder}")

    return answer


def _reproducing(experiment: Experiment) -> Callable[..., None]:
    names = tuple(arm.name for arm in experiment.compared)
    plain, own_plain, ArmName = _unset(experiment, names)

    def reproduce(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        seeds: int = 1,
        arms: tuple[ArmName, ...] = names,
        baseline: ArmName | None = None,
    ) -> None:
        """Train and score all arms, then print the tables and write the report.

        Args:
            seeds: how many seeds, from 0 on.
            arms: which arms.
            baseline: the arm that every other one is compared with; the first unless given.
        """
        if seeds < 1:
            raise UserError(f"--seeds must be at least 1, got {seeds}")
        run = _Run(experiment, options, own)
        if run.planned():
            return
        space, console = run.open(), Console()
        chosen = [arm for arm in experiment.compared if arm.name in arms]
        print_stages(space, chosen, seeds, console)
        tell = tell_on(console, experiment.metrics, chosen)
        for seed in range(seeds):
            evaluate_arms(space, chosen, seed, tell=tell)
        if jax.process_index() == 0:
            page = run.folder / "report.html"
            _conclude(experiment, (run.folder,), page, baseline=baseline)
            _say_next(run, seeds)

    return reproduce


def _reporting(experiment: Experiment) -> Callable[..., None]:
    _, _, ArmName = _unset(experiment, [arm.name for arm in experiment.compared])

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
            raise UserError(f"name at least one run folder, such as runs/{_first(experiment)}")
        page, options = out or runs[0] / "report.html", {"bootstrap": bootstrap, "level": level}
        _conclude(experiment, runs, page, baseline=baseline, **options)

    return report


def _unset(experiment: Experiment, arms: Sequence[str]) -> tuple[RunOptions, Any, Any]:
    """Run options and the experiment's own as they are unless given; the type of arms' names."""
    presets = literal_type_from_choices(tuple(experiment.presets))
    field = ("preset", presets, dataclasses.field(default=_first(experiment)))
    options = dataclasses.make_dataclass("Options", [field], bases=(RunOptions,), frozen=True)
    return options(), experiment.options, literal_type_from_choices(tuple(arms))


def _first(experiment: Experiment) -> str:
    return next(iter(experiment.presets))


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


def _say_next(run: _Run, seeds: int) -> None:
    experiment, options, folder = run.experiment, run.options, run.folder
    given = {"data_dir": options.data_dir, "model_dir": options.model_dir, "mesh": options.mesh}
    given |= {field.name: getattr(run.own, field.name) for field in dataclasses.fields(run.own)}
    same = ["--preset", options.preset, "--run-dir", str(folder)]
    for name, value in given.items():
        if value is not None:
            same += [f"--{name.replace('_', '-')}", str(value)]
    last = experiment.compared[-1].name
    _say("next:")
    _say("  " + experiment.command("reproduce", *same, "--seeds", str(max(2 * seeds, 5))))
    _say("  " + experiment.command("answer", *same, "--arm", last, "--temperature", "1"))
    _say("  " + experiment.command("report", str(folder), "--baseline", last))


def _say(line: str) -> None:
    if jax.process_index() == 0:
        Console(soft_wrap=True).print(line, highlight=False, markup=False)
