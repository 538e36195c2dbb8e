"""Reward design without a language model: run a study, or all of them; `--help` lists the rest."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from experiments.common.scores.summaries import write_json
from experiments.reward_design.configs import STUDIES
from experiments.reward_design.estimators import estimators_named
from experiments.reward_design.page import write_findings
from experiments.reward_design.policies import PolicyName
from experiments.reward_design.results import Findings, as_json, print_findings
from experiments.reward_design.settings import CountingStudy, Study
from experiments.reward_design.studies import run_study
from gdpo_jax.advantages import ESTIMATORS
from gdpo_jax.commands.running import run_command
from gdpo_jax.errors import UserError

StudyName = Literal["distinct", "collapse", "cancel", "conditioning", "pareto"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What may differ from the study's configuration."""

    estimators: tuple[str, ...] | None = None
    """By name, or your own as module:function or file.py:function."""
    seeds: int | None = None
    """How many seeds, from 0 on; each is another task of the family."""
    steps: int | None = None
    """Training steps."""
    policy: PolicyName | None = None
    """A table of free logits (the default), or a small network that shares what it learns."""

    def applied(self, name: str) -> Study | CountingStudy:
        """The study of that name with the options applied. Raises UserError for a bad value."""
        study = STUDIES[name]
        if self.estimators is not None:
            study = dataclasses.replace(study, estimators=self.estimators)
        estimators_named(study.estimators)
        if isinstance(study, CountingStudy):
            return study
        if self.seeds is not None:
            study = dataclasses.replace(study, seeds=self.seeds)
        if study.seeds < 1:
            raise UserError(f"--seeds must be at least 1, got {study.seeds}")
        changes = {"steps": self.steps, "policy": self.policy}
        given = {field: value for field, value in changes.items() if value is not None}
        training = dataclasses.replace(study.training, **given)
        return dataclasses.replace(study, training=training)


def run(
    study: tyro.conf.Positional[StudyName],
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),
    out: Path | None = None,
) -> None:
    """Run one study and print what it shows.

    Args:
        study: which one; see experiments/reward_design/configs.
        out: folder for results.json and report.html; nothing is written unless given.
    """
    found = _run([study], options)
    if out is not None:
        _write(found, out)


def everything(
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),
    out: Path = Path("runs/reward_design"),
) -> None:
    """Run every study, print what they show, and write results.json and report.html.

    Args:
        out: folder to write to.
    """
    _write(_run(list(STUDIES), options), out)


def estimators() -> None:
    """List the estimators by name."""
    for name, function in ESTIMATORS.items():
        first = (function.__doc__ or "").strip().splitlines()[0]
        Console(soft_wrap=True).print(f"[bold]{name}[/bold]  {first}", highlight=False)


def _run(names: list[str], options: Options) -> list[Findings]:
    # All of them are checked before the first one starts.
    studies = [options.applied(name) for name in names]
    found = []
    for study in studies:
        start = time.perf_counter()
        found.append(run_study(study))
        print_findings(found[-1], Console())
        Console().print(f"{time.perf_counter() - start:.1f} s\n", highlight=False)
    return found


def _write(found: list[Findings], out: Path) -> None:
    write_json(out / "results.json", {one.name: as_json(one) for one in found})
    page = write_findings(found, out / "report.html")
    Console().print(f"results: {out / 'results.json'}, report: {page}", highlight=False)


COMMANDS = {"run": run, "all": everything, "estimators": estimators}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    prog = "python -m experiments.reward_design"
    return run_command(COMMANDS, arguments, prog=prog, description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
