"""User-level clipping with noise as a stage: the shared model learns from everybody, and from
nobody much (arXiv 2407.07737, ULS; the arithmetic is in `gdpo_jax/training/user_clipping.py`).
"""

import dataclasses
from collections.abc import Sequence

import jax

from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Job
from experiments.persona_leakage.learning.accounting import Guarantee, guarantee
from gdpo_jax.errors import UserError
from gdpo_jax.planning import PlannedStep, plan_sft
from gdpo_jax.policies import LoraConfig, Policy, lora_policy
from gdpo_jax.recipe import Model, imitate
from gdpo_jax.training import OptimizerConfig, SFTConfig, UserClipping

__all__ = ["Private", "PrivateImitation"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivateImitation:
    """Settings of the stage. Raises UserError for a delta that is none."""

    run: SFTConfig  # steps and widths; batch_size is the number of users expected in a step
    # Of the noisy mean. Adam divides by the noise where that is larger than the gradient.
    optimizer: OptimizerConfig
    users: UserClipping  # norm, noise, rows of a user in a step
    delta: float = 1e-2  # of the guarantee; below one over the number of users
    lora: LoraConfig | None = None  # adapters that the stage trains; None trains all parameters

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise UserError(f"delta must be between 0 and 1, got {self.delta}")

    def guarantee(self, users: int) -> Guarantee | None:
        """What the stage guarantees to each of so many users; None without noise.

        Raises UserError for fewer users than are expected in a step, a delta that is as large as
        one over their number, and without dp-accounting.
        """
        if users < self.run.batch_size:
            raise UserError(f"{self.run.batch_size} users are expected in a step, of {users}")
        if self.delta * users >= 1:
            raise UserError(
                f"delta {self.delta:g} lets one of {users} users be given away whole; set it below "
                f"{1 / users:.3g}"
            )
        rate, steps = self.run.batch_size / users, self.run.steps
        return guarantee(noise=self.users.noise, rate=rate, steps=steps, delta=self.delta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Private:
    """Imitation that clips every user's gradient and adds noise, as a stage of an arm."""

    settings: str = "private"  # their name in the preset
    examples: str = "pooled"  # the name of rows with a user, "prompt" and "completion"

    def steps(self, preset: Preset) -> int:
        return preset.stage(self.settings, PrivateImitation).run.steps

    def train(self, job: Job) -> Model:
        settings = job.preset.stage(self.settings, PrivateImitation)
        start = job.adapted(settings.lora)
        state = imitate(
            start,
            job.examples(self.examples),
            prompt=job.prompt,
            optimizer=settings.optimizer,
            config=settings.run,
            seed=job.seed,
            workdir=job.folder,
            # A row that is left out for its length would be a user with less to say.
            too_long="error",
            identity=job.identity,
            title=job.title,
            users=settings.users,
        )
        return start.with_params(state.params)

    def plan(
        self, preset: Preset, policy: Policy, mesh: jax.sharding.Mesh
    ) -> Sequence[PlannedStep]:
        settings = preset.stage(self.settings, PrivateImitation)
        adapted = policy if settings.lora is None else lora_policy(policy, settings.lora)
        planned = plan_sft(
            adapted, settings.optimizer, settings.run, mesh=mesh, users=settings.users
        )
        return [dataclasses.replace(planned, name="private step")]
