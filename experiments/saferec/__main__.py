"""The SafeRec experiment from the command line; `--help` lists the stages."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro
from rich.console import Console

from experiments.common.report.report import report as write_report
from experiments.common.report.runs import load_runs
from experiments.common.scores.claims import hold
from experiments.common.scores.results import assemble, collect, write_results
from experiments.common.scores.results_tables import print_table, print_verdicts
from experiments.common.scores.table import Table
from experiments.saferec.arms import ARM_NAMES, ARMS, Arm, arm_named
from experiments.saferec.claims import CLAIMS
from experiments.saferec.data.dataset import build_dataset
from experiments.saferec.data.new_corpora import inject_command
from experiments.saferec.data.published_folder import build_published, describe
from experiments.saferec.metrics import METRICS
from experiments.saferec.page import SECTIONS
from experiments.saferec.pipeline import evaluate_arm, generate, score_arm, train_arm
from experiments.saferec.plan import print_preset_plan
from experiments.saferec.presets import preset_named
from experiments.saferec.scoring.command import evaluate
from experiments.saferec.settings import Level, Preset
from experiments.saferec.workspace import Workspace, open_workspace
from experiments.saferec.zero_shot import zero_shot
from gdpo_jax.commands.running import mesh_config, run_command
from gdpo_jax.errors import UserError

PresetName = Literal[
    "mini", "smoke", "smollm2", "smollm2-cpu", "qwen2.5-0.5b", "llama-3.2-3b", "llama-3.1-8b"
]
SupervisedArm = Literal["sft", "safe-sft"]
PolicyArm = Literal["relevance-rl", "safe-grpo", "safe-gdpo-no-count", "safe-gdpo"]
AnyArm = Literal["sft", "relevance-rl", "safe-sft", "safe-grpo", "safe-gdpo-no-count", "safe-gdpo"]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options that every training stage shares."""

    preset: PresetName = "mini"
    """Data sizes, policy and training settings; see experiments/saferec/presets."""
    run_dir: Path | None = None
    """Where everything of the run goes; runs/PRESET unless given. The same folder resumes."""
    level: Level | None = None
    """Where rewards and importance ratios live: per list item, or per answer."""
    data_dir: Path | None = None
    """The data set, embedded or built of published files; RUN_DIR/data unless given."""
    model_dir: Path | None = None
    """The language model to start from: a Hugging Face folder or a GGUF file."""
    mesh: str | None = None
    """Devices as DATAxFSDPxTENSOR, such as 1x8x1; the preset's shape unless given."""
    dry_run: bool = False
    """Compile the steps on shapes alone, print memory, and stop; nothing is read or written."""
    distributed: bool = False
    """Join the other processes of a pod or cluster first (jax.distributed.initialize)."""

    def settings(self) -> Preset:
        """The preset with the options applied."""
        preset = preset_named(self.preset)
        if self.mesh is not None:
            preset = dataclasses.replace(preset, mesh=mesh_config(self.mesh))
        return preset if self.level is None else preset.with_level(self.level)

    def folder(self) -> Path:
        """The run folder."""
        return self.run_dir or Path("runs") / self.preset

    def open(self) -> Workspace:
        """The workspace, built where it is missing."""
        if self.distributed:
            jax.distributed.initialize()
        return open_workspace(
            self.folder(),
            self.settings(),
            data_dir=self.data_dir,
            model_dir=self.model_dir,
        )


def data(
    data_dir: Path = Path("runs/mini/data"),
    domain: Literal["films", "games"] | None = None,
    source: Path | None = None,
) -> None:
    """Build a data set (TFDS, array_record): an embedded one, or one of published files.

    Args:
        data_dir: folder to write to; an embedded data set that is there already is kept.
        domain: the embedded films (the default), or the embedded games (SafeGame).
        source: folder of published SafeRec files to convert instead; refused rows are listed.
    """
    console = Console(soft_wrap=True)
    if source is None:
        sizes = build_dataset(data_dir, domain)
        lines = [", ".join(f"{count} {name}" for name, count in sizes.items())]
    elif domain is not None:
        raise UserError("give domain or source: published files are about films")
    else:
        lines = describe(build_published(source, data_dir))
    for line in lines:
        console.print(f"{data_dir}: {line}", highlight=False, markup=False)


def sft(
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = RunOptions(),
    arm: SupervisedArm = "safe-sft",
    seed: int = 0,
) -> None:
    """Train and score a supervised arm.

    Args:
        arm: sft imitates the raw teacher, safe-sft the teacher without what hurts the user.
        seed: of initial values and data order.
    """
    _run_arm(options, arm_named(arm), seed)


def rl(
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = RunOptions(),
    arm: PolicyArm = "safe-gdpo",
    seed: int = 0,
) -> None:
    """Train and score a reinforcement learning arm, and first the supervised arm it starts from.

    Args:
        arm: which rewards and which estimator; see experiments/saferec/arms.py.
        seed: of data order and sampling, and of the arm it starts from.
    """
    _run_arm(options, arm_named(arm), seed)


def answer(
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = RunOptions(),
    arm: AnyArm = "safe-gdpo",
    seed: int = 0,
    split: Literal["validation", "test"] = "test",
    temperature: float = 0.0,
) -> None:
    """Answer a split with a trained arm and score the answers.

    Args:
        arm: the arm, which is trained first if it is not.
        seed: of the arm.
        split: conversations to answer.
        temperature: 0 takes the most likely token each time.
    """
    if options.dry_run:
        return print_preset_plan(options.settings(), options.model_dir, Console())
    space = options.open()
    trained = train_arm(space, arm_named(arm), seed)
    records = space.corpus.records[split]
    texts = generate(space, trained, records, temperature=temperature, seed=seed)
    folder = space.arm_dir(arm, seed) / f"answers-{split}-{temperature:g}"
    table = score_arm(space, texts, records, folder)
    _show(table, folder, arm_named(arm))


def reproduce(
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = RunOptions(),
    seeds: int = 1,
    arms: tuple[AnyArm, ...] = ARM_NAMES,
    baseline: AnyArm | None = None,
) -> None:
    """Train and score all arms, then print the tables and write the report.

    Args:
        seeds: how many seeds, from 0 on.
        arms: which arms.
        baseline: the arm that every other one is compared with; the first unless given.
    """
    if seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {seeds}")
    if options.dry_run:
        return print_preset_plan(options.settings(), options.model_dir, Console())
    space = options.open()
    for seed in range(seeds):
        for arm in ARMS:
            if arm.name in arms:
                evaluate_arm(space, arm, seed)
    if jax.process_index() == 0:
        _conclude((options.folder(),), options.folder() / "report.html", baseline=baseline)


def report(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path | None = None,
    baseline: AnyArm | None = None,
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
        raise UserError("name at least one run folder, such as runs/mini")
    _conclude(
        runs, out or runs[0] / "report.html", baseline=baseline, bootstrap=bootstrap, level=level
    )


def _run_arm(options: RunOptions, arm: Arm, seed: int) -> None:
    if options.dry_run:
        return print_preset_plan(options.settings(), options.model_dir, Console())
    space = options.open()
    table = evaluate_arm(space, arm, seed)
    _show(table, space.arm_dir(arm.name, seed), arm)


def _show(table: Table, folder: Path, arm: Arm) -> None:
    if jax.process_index() != 0:
        return
    results = assemble(
        {arm.name: {0: table}}, titles={arm.name: arm.title}, metrics=METRICS, source=str(folder)
    )
    print_table(results, Console())
    Console().print(f"outputs and scores are in {folder}", highlight=False)


def _conclude(folders: tuple[Path, ...], page: Path, **options) -> None:
    arms = [(arm.name, arm.title) for arm in ARMS]
    results = [collect(path, arms=arms, metrics=METRICS, **options) for path in folders]
    for path, found in zip(folders, results):
        verdicts = hold(CLAIMS, found)
        write_results(found, path / "results.json", verdicts=verdicts)
        print_table(found, Console())
        print_verdicts(verdicts, Console())
    runs = load_runs(folders, results, arms=ARM_NAMES, claims=CLAIMS)
    written = write_report("SafeRec", runs, SECTIONS, page)
    Console().print(f"report: {written}", highlight=False)


COMMANDS = {
    "data": data,
    "inject": inject_command,
    "sft": sft,
    "rl": rl,
    "answer": answer,
    "evaluate": evaluate,
    "zero-shot": zero_shot,
    "reproduce": reproduce,
    "report": report,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    prog = "python -m experiments.saferec"
    return run_command(COMMANDS, arguments, prog=prog, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
