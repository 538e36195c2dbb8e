"""The SafeRec experiment from the command line; `--help` lists the stages."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro
from rich.console import Console

from experiments.commands import run_command
from experiments.saferec.arms import ARM_NAMES, ARMS, Arm, arm_named
from experiments.saferec.configs import preset_named
from experiments.saferec.dataset import build_dataset
from experiments.saferec.pipeline import evaluate_arm, generate, score_arm, train_arm
from experiments.saferec.report import write_report
from experiments.saferec.results import collect, print_table, print_verdicts, write_results
from experiments.saferec.scoring import evaluate_command, print_summary
from experiments.saferec.settings import Level, Preset
from experiments.saferec.workspace import Workspace, open_workspace
from gdpo_jax.errors import UserError

PresetName = Literal["mini", "smoke"]
SupervisedArm = Literal["sft", "safe-sft"]
PolicyArm = Literal["relevance-rl", "safe-grpo", "safe-gdpo-no-count", "safe-gdpo"]
AnyArm = Literal["sft", "relevance-rl", "safe-sft", "safe-grpo", "safe-gdpo-no-count", "safe-gdpo"]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options that every training stage shares."""

    preset: PresetName = "mini"
    """Data sizes, policy and training settings; see experiments/saferec/configs."""
    run_dir: Path | None = None
    """Where everything of the run goes; runs/PRESET unless given. The same folder resumes."""
    level: Level | None = None
    """Where rewards and importance ratios live: per list item, or per answer."""
    data_dir: Path | None = None
    """The embedded data set; RUN_DIR/data unless given."""
    distributed: bool = False
    """Join the other processes of a pod or cluster first (jax.distributed.initialize)."""

    def settings(self) -> Preset:
        """The preset with the options applied."""
        preset = preset_named(self.preset)
        return preset if self.level is None else preset.with_level(self.level)

    def folder(self) -> Path:
        """The run folder."""
        return self.run_dir or Path("runs") / self.preset

    def open(self) -> Workspace:
        """The workspace, built where it is missing."""
        if self.distributed:
            jax.distributed.initialize()
        return open_workspace(self.folder(), self.settings(), data_dir=self.data_dir)


def data(data_dir: Path = Path("runs/mini/data")) -> None:
    """Build the embedded data set (TFDS, array_record).

    Args:
        data_dir: folder to write to; a data set that is there already is kept.
    """
    sizes = build_dataset(data_dir)
    shown = ", ".join(f"{count} {name}" for name, count in sizes.items())
    Console().print(f"{data_dir}: {shown}", highlight=False)


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
    space = options.open()
    params = train_arm(space, arm_named(arm), seed)
    records = space.records[split]
    texts = generate(space, params, records, temperature=temperature, seed=seed)
    folder = space.arm_dir(arm, seed) / f"answers-{split}-{temperature:g}"
    summary = score_arm(space, texts, records, folder)
    _show(summary, folder)


def reproduce(
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = RunOptions(),
    seeds: int = 1,
    arms: tuple[AnyArm, ...] = ARM_NAMES,
) -> None:
    """Train and score all arms, then print the table and write the report.

    Args:
        seeds: how many seeds, from 0 on.
        arms: which arms.
    """
    if seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {seeds}")
    space = options.open()
    for seed in range(seeds):
        for arm in ARMS:
            if arm.name in arms:
                evaluate_arm(space, arm, seed)
    _conclude(options.folder(), options.folder() / "report.html")


def report(runs: tyro.conf.Positional[tuple[Path, ...]], out: Path | None = None) -> None:
    """Print the table of finished runs and write one self-contained HTML page.

    Args:
        runs: run folders.
        out: the page; report.html in the first run folder unless given.
    """
    if not runs:
        raise UserError("name at least one run folder, such as runs/mini")
    for run in runs:
        results = collect(run)
        print_table(results, Console())
        print_verdicts(results, Console())
    _write_page(runs, out or runs[0] / "report.html")


def _run_arm(options: RunOptions, arm: Arm, seed: int) -> None:
    space = options.open()
    summary = evaluate_arm(space, arm, seed)
    _show(summary, space.arm_dir(arm.name, seed))


def _show(summary: dict, folder: Path) -> None:
    if jax.process_index() != 0:
        return
    described = {"k": [5, 10], "convention": "fixed", "oracle": "embedded", "unknown": "safe"}
    print_summary({**described, **summary}, console=Console())
    Console().print(f"outputs and scores are in {folder}", highlight=False)


def _conclude(run_dir: Path, page: Path) -> None:
    if jax.process_index() != 0:
        return
    results = collect(run_dir)
    write_results(results, run_dir / "results.json")
    print_table(results, Console())
    print_verdicts(results, Console())
    _write_page((run_dir,), page)


def _write_page(runs: tuple[Path, ...], page: Path) -> None:
    Console().print(f"report: {write_report(runs, page)}", highlight=False)


COMMANDS = {
    "data": data,
    "sft": sft,
    "rl": rl,
    "answer": answer,
    "evaluate": evaluate_command,
    "reproduce": reproduce,
    "report": report,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    prog = "python -m experiments.saferec"
    return run_command(COMMANDS, arguments, prog=prog, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
