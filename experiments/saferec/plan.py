"""A dry run: the steps of a preset compiled on shapes alone, and what each device would hold."""

import dataclasses
import math
from pathlib import Path

import jax
from rich.console import Console

from experiments.saferec.settings import Preset
from gdpo_jax.models import model_path
from gdpo_jax.policies import (
    DecoderConfig,
    LoraConfig,
    Policy,
    decoder_policy,
    lora_policy,
    open_pretrained,
)
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.training import MeshConfig, make_mesh
from gdpo_jax.training.planning import (
    PlannedStep,
    plan_devices,
    plan_optimization,
    plan_sft,
    print_plan,
)

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


def plan(preset: Preset, decoder: DecoderConfig, mesh: jax.sharding.Mesh) -> list[PlannedStep]:
    """Memory of the supervised step, the policy step and the sampler at their widest shapes.

    Raises UserError where sizes do not divide over the mesh or exceed the decoder's positions.
    """
    start, policy = preset.pretrained, decoder_policy(decoder)

    def adapted(lora: LoraConfig | None) -> Policy:
        return policy if lora is None else lora_policy(policy, lora)

    stage = preset.safe_sft
    sampler = SamplerConfig(max_new_tokens=preset.max_new_tokens, stop_ids=(0,), pad_id=0)
    return [
        plan_sft(
            policy if start is None else adapted(start.sft_lora),
            stage.optimizer,
            stage.run,
            mesh=mesh,
        ),
        *plan_optimization(
            policy if start is None else adapted(start.rl_lora),
            preset.rl_optimizer,
            preset.objective,
            preset.rl,
            sampler,
            mesh=mesh,
            with_segments=preset.level == "rank",
        ),
    ]


def print_preset_plan(preset: Preset, model_dir: Path | None, console: Console) -> None:
    """Compiles the preset's steps and prints a row for each; nothing of the model is allocated."""
    shape = preset.mesh or MeshConfig(1, 1, 1)
    mesh = make_mesh(shape, plan_devices(math.prod((shape.data, shape.fsdp, shape.tensor))))
    decoder = planned_decoder(preset, model_dir)
    steps = plan(preset, decoder, mesh)
    print_plan(preset.name, decoder_policy(decoder), steps, mesh=mesh, console=console)
