"""The options that the commands of every experiment share, and the run that they mean."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tyro.extras import literal_type_from_choices

from experiments.common.runs.experiment import Experiment
from experiments.common.runs.folder import Workspace, open_workspace
from experiments.common.runs.plan import print_preset_plan
from experiments.common.runs.settings import Preset
from gdpo_jax.commands.options import ProcessOptions
from gdpo_jax.commands.running import mesh_config
from gdpo_jax.errors import UserError
from gdpo_jax.planning.table import wide_console

__all__ = ["Invocation", "RunOptions", "first_preset", "unset"]


@dataclasses.dataclass(frozen=True)
class RunOptions(ProcessOptions):
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
    chips: str | None = None
    """With --dry-run, what to plan for, such as v5p:2x2x4, in place of forced CPU devices."""


@dataclasses.dataclass(frozen=True)
class Invocation:
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

    def program(self) -> list[str]:
        """How the experiment's program was started; empty if that was another program."""
        main = sys.modules["__main__"]
        if all(value is not self.experiment for value in vars(main).values()):
            return []
        if main.__spec__ is None:
            return [sys.executable, main.__file__]
        return [sys.executable, "-m", main.__spec__.name.removesuffix(".__main__")]

    def same(self) -> list[str]:
        """The arguments by which another command opens the same run."""
        options, own = self.options, self.own
        given = {"data_dir": options.data_dir, "model_dir": options.model_dir, "mesh": options.mesh}
        given |= {field.name: getattr(own, field.name) for field in dataclasses.fields(own)}
        same = ["--preset", options.preset, "--run-dir", str(self.folder)]
        for name, value in given.items():
            if value is not None:
                same += [f"--{name.replace('_', '-')}", str(value)]
        return same

    def planned(self) -> bool:
        """Prints the memory of the steps instead, if that was asked for.

        Raises UserError for chips without a dry run.
        """
        options = self.options
        if options.chips is not None and not options.dry_run:
            raise UserError("--chips is what --dry-run plans for; give both")
        if options.dry_run:
            preset = self.settings()
            print_preset_plan(
                self.experiment, preset, options.model_dir, wide_console(), options.chips
            )
        return options.dry_run

    def open(self) -> Workspace:
        """The workspace, built where it is missing."""
        self.options.join()
        return open_workspace(
            self.experiment,
            self.folder,
            self.settings(),
            data_dir=self.options.data_dir,
            model_dir=self.options.model_dir,
        )

    def open_begun(self) -> Workspace:
        """The workspace of a run that is there already. Raises UserError where it is not."""
        if not (self.folder / "preset.json").is_file():
            raise UserError(
                f"{self.folder} is no run folder (no preset.json in it); train the arms first, or "
                "give --run-dir"
            )
        return self.open()


def unset(experiment: Experiment, arms: Sequence[str]) -> tuple[RunOptions, Any, Any]:
    """Run options and the experiment's own as they are unless given; the type of arms' names."""
    presets = literal_type_from_choices(tuple(experiment.presets))
    field = ("preset", presets, dataclasses.field(default=first_preset(experiment)))
    options = dataclasses.make_dataclass("Options", [field], bases=(RunOptions,), frozen=True)
    return options(), experiment.options, literal_type_from_choices(tuple(arms))


def first_preset(experiment: Experiment) -> str:
    return next(iter(experiment.presets))
