"""One LoRA adapter per user over a shared base that never sees anything of them, as a stage.

All users' adapters are trained in one program (`stacking.py`) and kept in a folder each
(`adapter_folders.py`). A user's adapter depends on the base, the settings, the seed and his own
rows alone: it is trained where it is not there yet, and whoever comes, goes or changes his rows
leaves the others' as they are.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Job
from experiments.persona_leakage.isolation import isolated
from experiments.persona_leakage.learning.adapted import personal
from experiments.persona_leakage.learning.adapter_folders import (
    keep_adapter,
    keep_metrics,
    keep_only,
    mark_finished,
    remove_training,
    stored_adapter,
    training_folder,
)
from experiments.persona_leakage.learning.stacking import (
    UserLikelihood,
    adapters_of,
    each_user_optimizer,
    stacked_adapters,
    stacked_policy,
    user_batches,
)
from gdpo_jax.data import records_digest
from gdpo_jax.errors import UserError
from gdpo_jax.planning.abstract import abstract_sft_batch
from gdpo_jax.planning.steps import PlannedStep, sft_step_figures
from gdpo_jax.policies import LoraConfig, Params, Policy
from gdpo_jax.policies.extras import need
from gdpo_jax.policies.files.weights import whole
from gdpo_jax.policies.lora import ADAPTERS, BASE
from gdpo_jax.prompts import PromptFunction, completion_encoder
from gdpo_jax.recipe import Model
from gdpo_jax.training import (
    OptimizerConfig,
    SFTConfig,
    create_state,
    fingerprint,
    process_share,
    replicated,
    run_sft,
)

__all__ = ["Adaptation", "PerUserAdapters", "adapt", "rows_by_user"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Settings of adapters of users. Raises UserError for those that cannot be kept apart."""

    # batch_size: rows of each user in a step. One width of prompts and one of completions, whatever
    # the longest row of a batch is.
    run: SFTConfig
    optimizer: OptimizerConfig  # max_grad_norm is of each user's gradient
    lora: LoraConfig
    together: int = 32  # users whose adapters are trained in one program; more take turns
    # Only users who are isolated at this threshold of strength have an adapter; None: all.
    gamma: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_buckets", "completion_buckets"):
            if len(getattr(self.run, name) or ()) != 1:
                raise UserError(
                    f"{name} of adapters of users must be one width, got "
                    f"{getattr(self.run, name)}: with several, one user's long row would change "
                    "the padding, and so the rounding, of everybody else's"
                )
        if self.run.batch_size % self.run.accumulation_steps:
            raise UserError(
                f"{self.run.batch_size} rows of a user do not divide into "
                f"{self.run.accumulation_steps} micro-batches"
            )
        if self.together < 1:
            raise UserError(f"together must be at least 1, got {self.together}")
        if self.gamma is not None and not self.gamma >= 0:
            raise UserError("gamma must be 0 or more, or None for an adapter of every user")

    def config(self, users: int) -> SFTConfig:
        """The run of so many users together."""
        return dataclasses.replace(self.run, batch_size=self.run.batch_size * users)

    def loss(self) -> UserLikelihood:
        """The loss of all users' adapters."""
        return UserLikelihood(self.run.layout, self.run.chunk)


def rows_by_user(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each "user", in order. Raises UserError for a row that names none."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row.get("user"), str):
            raise UserError(f"row {number} to learn from names no user: {row!r:.200}")
        found.setdefault(row["user"], []).append(row)
    return found


def adapt(
    model: Model,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    settings: Adaptation,
    *,
    folder: Path,
    prompt: PromptFunction = "prompt",
    seed: int = 0,
    title: str = "adapters",
) -> Model:
    """The model with an adapter of each user (`adapted.personal`); its parameters stay as they are.

    rows: by user, with "completion" and what `prompt` reads. folder: where adapters are kept, one
    folder a user, and checkpoints of training. Run again, it goes on where it stopped, loads what
    is finished, and deletes adapters of users who have no rows any more.

    Raises UserError for a row that cannot be encoded or is too wide, a user with too few of them,
    a package that is missing, and as `run_sft`.
    """
    need("safetensors", "keeping adapters of users")
    encoded = {user: _encoded(model, user, rows[user], settings, prompt) for user in sorted(rows)}
    about = [fingerprint(model.params), dataclasses.asdict(_unfree(settings)), seed]
    digests = {user: records_digest([*about, own]) for user, own in encoded.items()}
    keep_only(folder, encoded)
    adapters = {user: stored_adapter(folder, user, model, digest=digests[user]) for user in encoded}
    missing = [user for user, own in adapters.items() if own is None]
    for first in range(0, len(missing), settings.together):
        users = missing[first : first + settings.together]
        work = training_folder(folder, records_digest([digests[user] for user in users]))
        stacked = _train(
            model, {user: encoded[user] for user in users}, settings, work, seed, title
        )
        keep_metrics(folder, work)
        stacked = jax.tree.map(whole, stacked)  # cut up on the host, without a program a leaf
        for place, user in enumerate(users):
            own = adapters_of(stacked, place)
            keep_adapter(folder, user, own, settings.lora, digest=digests[user])
            adapters[user] = stored_adapter(folder, user, model, digest=digests[user])
        remove_training(work)
    mark_finished(folder, settings.run.steps)
    return personal(model, adapters, settings.lora)


def _encoded(
    model: Model,
    user: str,
    rows: Sequence[Mapping[str, Any]],
    settings: Adaptation,
    prompt: PromptFunction,
) -> list[tuple[list[int], list[int]]]:
    encode = completion_encoder(model.tokenizer, prompt, "completion")
    [wide], [long] = settings.run.prompt_buckets, settings.run.completion_buckets
    found = []
    for number, row in enumerate(rows):
        try:
            asked, answer = encode(row)
        except UserError as error:
            raise UserError(f"row {number} of user {user!r}: {error}") from error
        if len(asked) > wide or len(answer) > long:
            raise UserError(
                f"row {number} of user {user!r} has a prompt of {len(asked)} and a completion of "
                f"{len(answer)} tokens, and widths are {wide} and {long}; name wider ones in run"
            )
        found.append((asked, answer))
    return found


def _unfree(settings: Adaptation) -> Adaptation:
    """The settings as far as they decide what a single user's adapter becomes."""
    run = dataclasses.replace(settings.run, checkpoint_every=1, keep_checkpoints=1, log_every=1)
    return dataclasses.replace(settings, run=run, together=1, gamma=None)


def _train(
    model: Model,
    encoded: Mapping[str, Sequence[Any]],
    settings: Adaptation,
    workdir: Path,
    seed: int,
    title: str,
) -> Params:
    """Stacked adapters of the users, in order, whole on every device."""
    policy = stacked_policy(model.policy, settings.lora, len(encoded))
    optimizer = each_user_optimizer(settings.optimizer)
    fresh = stacked_adapters(model, settings.lora, seed, list(encoded))
    share = process_share(model.mesh)
    batches = user_batches(encoded, each=settings.run.batch_size, seed=seed, share=share)
    state = run_sft(
        policy,
        create_state(
            policy,
            optimizer,
            key=jax.random.key(seed),
            mesh=model.mesh,
            rules=model.rules,
            params={BASE: model.params, ADAPTERS: fresh},
        ),
        optimizer=optimizer,
        records=batches,
        encode=lambda pair: pair,
        pad_id=model.tokenizer.pad_id,
        config=settings.config(len(encoded)),
        workdir=workdir,
        mesh=model.mesh,
        rules=model.rules,
        title=title,
        loss=settings.loss(),
    )
    place = jax.jit(lambda tree: tree, out_shardings=replicated(model.mesh))
    return place(state.params[ADAPTERS])


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerUserAdapters:
    """Adapters of users as a stage of an arm whose way to answer is `adapted.Adapted`."""

    settings: str = "adapters"  # their name in the preset
    examples: str = "personal"  # the name of rows with "user", "prompt" and "completion"
    # With gamma in the settings, the name of rows with "user" and "strength".
    strengths: str | None = None

    def steps(self, preset: Preset) -> int:
        return self._settings(preset).run.steps

    def train(self, job: Job) -> Model:
        settings = self._settings(job.preset)
        rows = rows_by_user(job.examples(self.examples))
        if self.strengths is not None:
            strengths = {row["user"]: row["strength"] for row in job.examples(self.strengths)}
            if unknown := sorted(rows.keys() - strengths.keys()):
                raise UserError(f"no strength of user {unknown[0]!r} in {self.strengths!r}")
            apart = isolated([strengths[user] for user in rows], settings.gamma)
            rows = {user: own for (user, own), alone in zip(rows.items(), apart) if alone}
        return adapt(
            job.model,
            rows,
            settings,
            folder=job.folder,
            prompt=job.prompt,
            seed=job.seed,
            title=job.title,
        )

    def plan(
        self, preset: Preset, policy: Policy, mesh: jax.sharding.Mesh
    ) -> Sequence[PlannedStep]:
        """Of as many users as are trained together."""
        settings = self._settings(preset)
        config = settings.config(settings.together)
        [wide], [long] = config.prompt_buckets, config.completion_buckets
        batch = abstract_sft_batch(
            batch_size=config.batch_size, prompt_length=wide, completion_length=long, mesh=mesh
        )
        compiled = sft_step_figures(
            stacked_policy(policy, settings.lora, settings.together),
            each_user_optimizer(settings.optimizer),
            batch,
            mesh=mesh,
            accumulation_steps=config.accumulation_steps,
            loss=settings.loss(),
        )
        shapes = (
            f"{settings.together} users with {settings.run.batch_size} rows each, prompt {wide}, "
            f"completion {long}, {config.accumulation_steps} micro-batches"
        )
        return [PlannedStep.of("step of adapters", shapes, compiled)]

    def _settings(self, preset: Preset) -> Adaptation:
        settings = preset.stage(self.settings, Adaptation)
        if (settings.gamma is None) is not (self.strengths is None):
            raise UserError(
                "gamma chooses users by their strength: give the settings gamma= and the stage "
                "strengths=, or neither"
            )
        return settings
