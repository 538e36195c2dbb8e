"""Contrastive refinement, the first stage of DCR (arXiv 2603.03323): prompts that only look toxic
and toxic ones are moved apart in the hidden states behind layer l, and everything behind layer l
stays as it is.

The paper states the loss family, the labels and the frozen tail. What it does not state is a
setting here, with our default and the reason for it.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from jaxtyping import Array, Float

from experiments.common.runs.settings import Preset
from experiments.common.runs.stages import Job
from experiments.dcr.data.prompts import KINDS
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import circle_loss, info_nce, supervised_contrastive, triplet_loss
from gdpo_jax.planning import PlannedStep, plan_sft
from gdpo_jax.policies import (
    POOLINGS,
    LoraConfig,
    Params,
    Policy,
    check_layer,
    layer_states,
    lora_policy,
    partial_policy,
    pooled,
)
from gdpo_jax.policies.partial import Mask
from gdpo_jax.prompts import PromptFunction
from gdpo_jax.recipe import Model, imitate, with_lora
from gdpo_jax.training import OptimizerConfig, SFTBatch, SFTConfig

__all__ = ["KINDS", "LOSSES", "ContrastiveLoss", "Refine", "Refinement", "refine", "refined_mask"]

LOSSES: Mapping[str, Callable[..., Any]] = {
    "circle": circle_loss,
    "info_nce": info_nce,
    "supervised": supervised_contrastive,
    "triplet": triplet_loss,
}
OPTIONS = ("margin", "scale", "temperature")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refinement:
    """Settings of contrastive refinement. Raises UserError for those that contradict each other."""

    # Layer l, counted from 1. Not stated; no default, since it depends on the depth: sweep it.
    layer: int
    # Steps, widths of prompts, checkpoints. batch_size is that of all kinds together.
    run: SFTConfig
    # Not stated. Rates of imitation suit: 1e-5 for all of a pretrained model, 1e-4 for adapters.
    optimizer: OptimizerConfig
    # Of the prompt's states: "last" token or "mean". Not stated; the last token is what the first
    # generated token is predicted from.
    pooling: Literal["last", "mean"] = "last"
    # "circle" is the paper's; "info_nce", "supervised" and "triplet" are for its missing ablation.
    loss: str = "circle"
    # Of "circle" (m, not stated; 0.4 is that of the common implementation) and "triplet" (0.2).
    margin: float | None = None
    scale: float | None = None  # of "circle" (g, not stated; 80 is that of the implementation)
    temperature: float | None = None  # of "info_nce" and "supervised" (0.07)
    # Prompts of each kind in a batch. The paper balances its subsets, and states no sizes.
    seeming: int = 8
    toxic: int = 8
    # The paper contrasts two subsets; plain prompts, if any, are a third class of their own.
    plain: int = 0
    # Whether the embedding is trained, which is before layer l. None: where it is no output table
    # as well, since training a tied one changes what is behind layer l.
    embedding: bool | None = None
    # Adapters of layers up to l in place of their parameters. Not stated; the paper names LoRA for
    # its second stage alone, so all parameters are our reading.
    lora: LoraConfig | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UserError(f"loss {self.loss!r} is unknown; legal: {', '.join(LOSSES)}")
        if self.pooling not in POOLINGS:
            raise UserError(f"pooling {self.pooling!r} is unknown; legal: {', '.join(POOLINGS)}")
        legal = inspect.signature(LOSSES[self.loss]).parameters
        for name in OPTIONS:
            if getattr(self, name) is not None and name not in legal:
                raise UserError(f"loss {self.loss!r} has no {name}; leave it None")
        sizes = {kind: getattr(self, kind) for kind in KINDS}
        if min(sizes.values()) < 0 or sum(size >= 2 for size in sizes.values()) < 2:
            raise UserError(
                f"a batch needs two kinds with at least two prompts each, got {sizes}: an anchor "
                "has a partner of its own kind and one of another"
            )
        if self.run.batch_size != sum(sizes.values()):
            raise UserError(
                f"run.batch_size is {self.run.batch_size}, and the kinds {sizes} are "
                f"{sum(sizes.values())} together; make them equal"
            )
        if self.lora is not None and self.embedding:
            raise UserError("lora= trains adapters of layers alone; leave embedding None or False")

    def contrast(self) -> "ContrastiveLoss":
        """The loss with the options that are given."""
        given = ((name, getattr(self, name)) for name in OPTIONS)
        options = tuple((name, value) for name, value in given if value is not None)
        return ContrastiveLoss(self.loss, self.layer, self.pooling, options)


@dataclasses.dataclass(frozen=True)
class ContrastiveLoss:
    """A contrastive loss of the pooled states behind a layer, with the batch's labels."""

    name: str
    layer: int
    pooling: str
    options: tuple[tuple[str, float], ...] = ()

    def __call__(self, policy: Policy, params: Params, batch: SFTBatch) -> Float[Array, ""]:
        lengths = batch.prompt_lengths
        states = layer_states(policy, params, batch.prompts, lengths, self.layer)
        embeddings = pooled(states, lengths, self.pooling)
        return LOSSES[self.name](embeddings, batch.labels, **dict(self.options))


def refined_mask(policy: Policy, layer: int, *, embedding: bool | None = None) -> Mask:
    """What is trained up to `layer`: layers, or their adapters, and the embedding as
    `Refinement.embedding` says. Norm and output table behind the last layer never are.

    Raises UserError for a layer that does not exist.
    """
    check_layer(policy.config, layer)
    if policy.trained is not None:
        return {policy.trained: {"layers": layer}}
    if embedding is None:
        embedding = not policy.config.tie_embeddings
    return {"layers": layer, "embedding": embedding}


def refine(
    model: Model,
    examples: Sequence[Mapping[str, Any]],
    settings: Refinement,
    *,
    prompt: PromptFunction = "prompt",
    workdir: str | Path,
    seed: int = 0,
    identity: Mapping[str, Any] | None = None,
    title: str = "refinement",
) -> Model:
    """The model with its states behind `settings.layer` refined; adapters are beside the others.

    examples: rows with "kind", one of KINDS, and what `prompt` reads of them. Run again with the
    same `workdir`, it goes on where it stopped.

    Raises UserError for a layer that does not exist, a row without a legal kind, kinds without
    enough rows, and as `imitate`.
    """
    check_layer(model.policy.config, settings.layer)
    for number, row in enumerate(examples):
        if row.get("kind") not in KINDS:
            raise UserError(
                f"example {number} has kind {row.get('kind')!r}; legal: {', '.join(KINDS)}"
            )
    start = model
    if settings.lora is not None:
        start = with_lora(model, settings.lora, jax.random.fold_in(jax.random.key(seed), 1))
    counts = {KINDS.index(kind): getattr(settings, kind) for kind in KINDS}
    state = imitate(
        start,
        examples,
        prompt=prompt,
        completion=None,
        optimizer=settings.optimizer,
        config=settings.run,
        seed=seed,
        workdir=workdir,
        identity=identity,
        title=title,
        loss=settings.contrast(),
        label=lambda row: KINDS.index(row["kind"]),
        per_label={label: count for label, count in counts.items() if count},
        mask=refined_mask(start.policy, settings.layer, embedding=settings.embedding),
    )
    return start.with_params(state.params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refine:
    """Contrastive refinement as a stage of an arm."""

    settings: str = "refine"  # their name in the preset
    examples: str = "contrast"  # the name in the experiment of rows with "prompt" and "kind"

    def steps(self, preset: Preset) -> int:
        settings = preset.stage(self.settings, Refinement)
        if preset.pretrained is None:
            check_layer(preset.decoder, settings.layer)
        return settings.run.steps

    def train(self, job: Job) -> Model:
        return refine(
            job.model,
            job.examples(self.examples),
            job.preset.stage(self.settings, Refinement),
            prompt=job.prompt,
            workdir=job.folder,
            seed=job.seed,
            identity=job.identity,
            title=job.title,
        )

    def plan(
        self, preset: Preset, policy: Policy, mesh: jax.sharding.Mesh
    ) -> Sequence[PlannedStep]:
        settings = preset.stage(self.settings, Refinement)
        adapted = policy if settings.lora is None else lora_policy(policy, settings.lora)
        mask = refined_mask(adapted, settings.layer, embedding=settings.embedding)
        planned = plan_sft(
            partial_policy(adapted, mask),
            settings.optimizer,
            dataclasses.replace(settings.run, completion_buckets=()),
            mesh=mesh,
            loss=settings.contrast(),
            with_labels=True,
        )
        shapes = f"{planned.shapes}, layers 1 to {settings.layer}"
        return [dataclasses.replace(planned, name="refinement step", shapes=shapes)]
