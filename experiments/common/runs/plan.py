"""A dry run: the steps of a preset compiled on shapes alone, and what each device would hold."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from experiments.common.runs.arms import Arm
from experiments.common.runs.experiment import Experiment
from experiments.common.runs.settings import Imitation, Optimization, Preset
from gdpo_jax.models import model_path
from gdpo_jax.planning import PlannedStep, open_pod, plan_answers, plan_devices, print_plan
from gdpo_jax.planning.comparison import MeshPlan
from gdpo_jax.planning.table import print_comparison
from gdpo_jax.policies import DecoderConfig, decoder_policy, open_pretrained
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.training import MeshConfig, make_mesh

__all__ = ["plan", "planned_decoder", "print_preset_plan"]


def planned_decoder(preset: Preset, model_dir: Path | None) -> DecoderConfig:
    """The architecture: of the model in `model_dir`, or else the one the preset is meant for."""
    start = preset.pretrained
    if start is None:
        return preset.decoder
    changes = {"dtype": start.dtype, "remat": start.remat}
    if model_dir is not None:
        return open_pretrained(model_path(model_dir), **changes).config
    return dataclasses.replace(preset.decoder, **changes)


def plan(
    preset: Preset, arms: Sequence[Arm], decoder: DecoderConfig, mesh: jax.sharding.Mesh
) -> list[PlannedStep]:
    """Memory of the steps of the arms' stages at their widest shapes, each kind once, and of
    answering the test records.

    Raises UserError where sizes do not divide over the mesh or exceed the decoder's positions.
    """
    policy = decoder_policy(decoder)
    published = preset.pretrained is not None
    planned: dict[str, PlannedStep] = {}
    compiled: list[Any] = []
    for arm in arms:
        # The same settings compile to the same steps.
        settings = preset.stages.get(getattr(arm.stage, "settings", None))
        if (published and arm.base) or (settings is not None and settings in compiled):
            continue
        compiled.append(settings)
        for step in arm.stage.plan(preset, policy, mesh):
            planned.setdefault(f"{step.name}: {step.shapes}", step)
    sampler = SamplerConfig(max_new_tokens=preset.max_new_tokens, stop_ids=(0,), pad_id=0)
    answers = plan_answers(
        policy,
        sampler,
        batch_size=preset.evaluation_batch,
        prompt_length=_widest_prompt(preset, decoder),
        mesh=mesh,
    )
    return [*planned.values(), answers]


def _widest_prompt(preset: Preset, decoder: DecoderConfig) -> int:
    """Of those of training, where settings name them, with enough positions left to answer."""
    settings = [
        each for each in preset.stages.values() if isinstance(each, Imitation | Optimization)
    ]
    room = decoder.max_positions - preset.max_new_tokens
    widths = [max(each.run.prompt_buckets) for each in settings if each.run.prompt_buckets]
    return min(max(widths, default=room), room)


def print_preset_plan(
    experiment: Experiment,
    preset: Preset,
    model_dir: Path | None,
    console: Console,
    chips: str | None = None,
) -> None:
    """Compiles the preset's steps and prints a row for each; nothing of the model is allocated.

    chips: what they are compiled for (`open_pod`), with exchanges, bounds and whether they fit;
    forced CPU devices and memory alone unless given.
    """
    shape = preset.mesh or MeshConfig(1, 1, 1)
    decoder = planned_decoder(preset, model_dir)
    policy = decoder_policy(decoder)
    if chips is not None:
        pod = open_pod(chips)
        steps = plan(preset, experiment.arms, decoder, make_mesh(shape, pod.devices))
        print_comparison(preset.name, policy, pod, [MeshPlan(shape, steps, pod)], console)
        return
    mesh = make_mesh(shape, plan_devices(math.prod((shape.data, shape.fsdp, shape.tensor))))
    steps = plan(preset, experiment.arms, decoder, mesh)
    print_plan(preset.name, policy, steps, mesh=mesh, console=console)
