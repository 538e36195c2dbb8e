"""Stages: how an arm's parameters come about. Any record with the methods of `Stage` is one.

Settings of a stage stand in the preset under the name that the stage gives; what it learns from and
its rewards are asked for by name as well, and answered by the experiment.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from experiments.common.runs.samples import keep_samples
from experiments.common.runs.settings import Imitation, Optimization, Preset
from gdpo_jax.advantages import ESTIMATORS, AdvantageTransform
from gdpo_jax.errors import UserError
from gdpo_jax.planning import PlannedStep, plan_optimization, plan_sft
from gdpo_jax.policies import LoraConfig, Policy, lora_policy
from gdpo_jax.prompts import Prompt
from gdpo_jax.recipe import Model, imitate, optimize, sampler_config, with_lora
from gdpo_jax.rollouts import RewardFunction, SamplerConfig, named_reward

__all__ = ["Imitate", "Job", "NoTraining", "Optimize", "Rewards", "Stage"]


@dataclasses.dataclass(frozen=True)
class Rewards:
    """What an arm's answers are rewarded for.

    estimator: options of the arm's estimator besides the weights. credit: further arguments of
    `optimize`, such as `segment`, `num_ranks` and `shaping`.
    """

    functions: Sequence[RewardFunction]
    estimator: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    credit: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One arm of one seed, ready to be trained.

    model: the plain model it starts from. examples: what a stage learns from, by name; rows with
    "prompt" (text or chat messages), and "completion" where they are imitated. prompt: of such a
    row, as the model takes it. folder: where the run keeps its checkpoints.
    """

    title: str
    seed: int
    preset: Preset
    model: Model
    examples: Callable[[str], Sequence[Mapping[str, Any]]]
    rewards: Callable[[], Rewards]
    prompt: Callable[[Mapping[str, Any]], Prompt]
    folder: Path
    identity: Mapping[str, Any]

    def adapted(self, lora: LoraConfig | None) -> Model:
        """The start with fresh adapters, if there are to be any."""
        if lora is None:
            return self.model
        return with_lora(self.model, lora, jax.random.fold_in(jax.random.key(self.seed), 1))


class Stage(Protocol):
    """How parameters come about."""

    def steps(self, preset: Preset) -> int:
        """Steps of training; 0 where nothing is trained. Raises UserError for missing settings."""

    def train(self, job: Job) -> Model:
        """The trained model. Goes on where it stopped, and only loads what is finished."""

    def plan(
        self, preset: Preset, policy: Policy, mesh: jax.sharding.Mesh
    ) -> Sequence[PlannedStep]:
        """Memory of its compiled steps at their widest."""


@dataclasses.dataclass(frozen=True)
class NoTraining:
    """The parameters it starts from."""

    def steps(self, preset: Preset) -> int:
        del preset
        return 0

    def train(self, job: Job) -> Model:
        return job.model

    def plan(self, preset, policy, mesh) -> Sequence[PlannedStep]:
        del preset, policy, mesh
        return ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imitate:
    """Supervised learning of the completions of examples."""

    settings: str  # their name in the preset
    examples: str  # their name in the experiment

    def steps(self, preset: Preset) -> int:
        return preset.stage(self.settings, Imitation).run.steps

    def train(self, job: Job) -> Model:
        settings = job.preset.stage(self.settings, Imitation)
        start = job.adapted(settings.lora)
        state = imitate(
            start,
            job.examples(self.examples),
            prompt=job.prompt,
            optimizer=settings.optimizer,
            config=settings.run,
            seed=job.seed,
            workdir=job.folder,
            identity=job.identity,
            title=job.title,
        )
        return start.with_params(state.params)

    def plan(self, preset, policy, mesh) -> Sequence[PlannedStep]:
        settings = preset.stage(self.settings, Imitation)
        adapted = _adapted(policy, settings.lora)
        return [plan_sft(adapted, settings.optimizer, settings.run, mesh=mesh)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimize:
    """Reinforcement learning of several rewards.

    Raises UserError for an unknown estimator, one that lacks an option, and weights of no reward.
    """

    rewards: tuple[str, ...]  # their names
    estimator: str  # a name of gdpo_jax.advantages.ESTIMATORS
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of the estimator
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)  # before the preset's
    examples: str = "policy"  # the name in the experiment of those whose prompts are answered
    settings: str = "rl"  # their name in the preset

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise UserError(f"unknown estimator {self.estimator!r}; legal: {', '.join(ESTIMATORS)}")
        parameters = inspect.signature(ESTIMATORS[self.estimator]).parameters
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in self.options:
                raise UserError(f"estimator {self.estimator!r} needs options={{{name!r}: ...}}")
        if strange := [name for name in self.options if name not in parameters]:
            raise UserError(
                f"estimator {self.estimator!r} has no option {strange[0]!r}; "
                f"legal: {', '.join(parameters)}"
            )
        if strange := [name for name in self.weights if name not in self.rewards]:
            raise UserError(
                f"a weight of {strange[0]!r}, which is no reward of this arm; "
                f"its rewards are {', '.join(self.rewards)}"
            )

    def steps(self, preset: Preset) -> int:
        return preset.stage(self.settings, Optimization).run.steps

    def transform(self, preset: Preset, rewards: Rewards) -> AdvantageTransform:
        """The estimator with the arm's and the preset's weights of the rewards there are."""
        chosen = {**preset.weights, **self.weights}
        names = [named_reward(function).name for function in rewards.functions]
        weights = {name: chosen.get(name, 1.0) for name in names}
        options = {**rewards.estimator, **self.options}
        return ESTIMATORS[self.estimator](weights=weights, **options)

    def train(self, job: Job) -> Model:
        settings = job.preset.stage(self.settings, Optimization)
        start, rewards = job.adapted(settings.lora), job.rewards()
        config = dataclasses.replace(settings.run, seed=job.seed)
        state = optimize(
            start,
            job.examples(self.examples),
            prompt=job.prompt,
            rewards=rewards.functions,
            estimator=self.transform(job.preset, rewards),
            objective=settings.objective,
            optimizer=settings.optimizer,
            config=config,
            sampler=sampler_config(
                start,
                max_new_tokens=job.preset.max_new_tokens,
                temperature=config.temperature,
            ),
            workdir=job.folder,
            identity=job.identity,
            on_step=keep_samples(job.folder / "samples.jsonl", every=job.preset.samples_every),
            title=job.title,
            **rewards.credit,
        )
        return start.with_params(state.params)

    def plan(self, preset, policy, mesh) -> Sequence[PlannedStep]:
        settings = preset.stage(self.settings, Optimization)
        sampler = SamplerConfig(max_new_tokens=preset.max_new_tokens, stop_ids=(0,), pad_id=0)
        return plan_optimization(
            _adapted(policy, settings.lora),
            settings.optimizer,
            settings.objective,
            settings.run,
            sampler,
            mesh=mesh,
            with_segments=settings.objective.level == "segment",
        )


def _adapted(policy: Policy, lora: LoraConfig | None) -> Policy:
    return policy if lora is None else lora_policy(policy, lora)
