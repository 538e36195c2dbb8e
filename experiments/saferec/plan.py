"""A dry run: the steps of a preset compiled on shapes alone, and what each device would hold."""

import contextlib
import dataclasses
import math
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from experiments.saferec.answering import model_path
from experiments.saferec.settings import Preset
from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    DecoderConfig,
    LoraConfig,
    Policy,
    decoder_policy,
    lora_policy,
    num_params,
    open_pretrained,
)
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.training import MeshConfig, check_batch, make_mesh, make_optimizer
from gdpo_jax.training.dry_run import (
    StepMemory,
    abstract_batch,
    abstract_sft_batch,
    policy_step_memory,
    sampler_memory,
    sft_step_memory,
)

__all__ = ["PlannedStep", "mesh_config", "plan", "planned_decoder", "print_plan"]

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """One compiled step. reference: bytes a device holds besides, of a reference policy's copy."""

    name: str
    shapes: str
    memory: StepMemory
    reference: int = 0


def mesh_config(text: str) -> MeshConfig:
    """The mesh that DATAxFSDPxTENSOR means. Raises UserError for anything else."""
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise UserError(f"--mesh {text!r}: give three sizes as DATAxFSDPxTENSOR, such as 1x8x1")
    return MeshConfig(*map(int, sizes))


def planned_decoder(preset: Preset, model_dir: Path | None) -> DecoderConfig:
    """The architecture: of the model in `model_dir`, or else the one the preset is meant for."""
    start = preset.pretrained
    if start is None:
        return preset.decoder
    changes = {"dtype": start.dtype, "remat": start.remat}
    if model_dir is not None:
        return open_pretrained(model_path(str(model_dir)), **changes).config
    return dataclasses.replace(preset.decoder, **changes)


def plan(preset: Preset, decoder: DecoderConfig, mesh: jax.sharding.Mesh) -> list[PlannedStep]:
    """Memory of the supervised step, the policy step and the sampler at their widest shapes.

    Raises UserError where sizes do not divide over the mesh or exceed the decoder's positions.
    """
    start, policy = preset.pretrained, decoder_policy(decoder)

    def adapted(lora: LoraConfig | None) -> Policy:
        return policy if lora is None else lora_policy(policy, lora)

    sft_policy = policy if start is None else adapted(start.sft_lora)
    rl_policy = policy if start is None else adapted(start.rl_lora)
    sft, rl, stage = preset.safe_sft.run, preset.rl, preset.safe_sft
    check_batch(sft.batch_size, mesh, parts=sft.accumulation_steps, what="batch_size")
    parts = rl.mini_batches * rl.accumulation_steps
    check_batch(rl.prompts_per_step, mesh, parts=parts, what="prompts_per_step")
    examples = abstract_sft_batch(
        batch_size=sft.batch_size,
        prompt_length=max(sft.prompt_buckets),
        completion_length=max(sft.completion_buckets),
        mesh=mesh,
    )
    imitated = sft_step_memory(
        sft_policy,
        make_optimizer(stage.optimizer),
        examples,
        mesh=mesh,
        accumulation_steps=sft.accumulation_steps,
        layout=sft.layout,
        chunk=sft.chunk,
    )
    width, length, group = max(rl.prompt_buckets), preset.max_new_tokens, rl.num_samples
    optimizer = make_optimizer(preset.rl_optimizer)
    sizes = {"prompts": rl.prompts_per_step, "num_samples": group, "prompt_length": width}
    batch = abstract_batch(
        **sizes,
        completion_length=length,
        mesh=mesh,
        with_reference=preset.objective.needs_reference,
        with_old=rl.num_iterations * rl.mini_batches > 1,
        with_segments=preset.level == "rank",
    )
    updated = policy_step_memory(
        rl_policy,
        optimizer,
        preset.objective,
        batch,
        mesh=mesh,
        accumulation_steps=rl.accumulation_steps,
        temperature=rl.temperature,
        layout=rl.layout,
        chunk=rl.chunk,
    )
    sampler = SamplerConfig(max_new_tokens=length, stop_ids=(0,), pad_id=0)
    sampled = sampler_memory(rl_policy, optimizer, sampler, **sizes, mesh=mesh)
    reference = 0
    if preset.objective.needs_reference and rl_policy.reference is None:
        reference = updated.parameters
    rows = f"{rl.prompts_per_step} prompts of {width}, {group} completions of {length} each"
    return [
        PlannedStep(
            "supervised step",
            f"{sft.batch_size} rows, prompt {max(sft.prompt_buckets)}, "
            f"completion {max(sft.completion_buckets)}, {sft.accumulation_steps} micro-batches",
            imitated,
        ),
        PlannedStep(
            "policy step", f"{rows}, {rl.accumulation_steps} micro-batches", updated, reference
        ),
        PlannedStep("sampler", rows, sampled, reference),
    ]


def print_plan(preset: Preset, model_dir: Path | None, console: Console) -> None:
    """Compiles the preset's steps and prints a row for each; nothing of the model is allocated."""
    shape = preset.mesh or MeshConfig(1, 1, 1)
    sizes = (shape.data, shape.fsdp, shape.tensor)
    mesh = make_mesh(shape, _devices(math.prod(sizes)))
    decoder = planned_decoder(preset, model_dir)
    steps = plan(preset, decoder, mesh)
    params = jax.eval_shape(decoder_policy(decoder).init, jax.random.key(0))
    console.print(
        f"{preset.name}: {num_params(params) / 1e6:.0f}M parameters, {decoder.num_layers} layers, "
        f"{decoder.dtype} products, {decoder.remat} remat, mesh data x fsdp x tensor "
        f"{'x'.join(map(str, sizes))}",
        highlight=False,
        soft_wrap=True,
    )
    for step in steps:
        console.print(f"{step.name}: {step.shapes}", highlight=False, soft_wrap=True)
    table = Table(title="GiB a device", title_justify="left")
    columns = ("parameters", "optimizer", "reference", "batch", "temporary", "total")
    for heading in ("", *columns):
        table.add_column(heading, justify="right" if heading else "left")
    for step in steps:
        memory = step.memory
        cells = (
            memory.parameters,
            memory.optimizer,
            step.reference,
            memory.batch,
            memory.temporary,
            memory.total + step.reference,
        )
        table.add_row(step.name, *(f"{cell / GIB:.2f}" for cell in cells))
    console.print(table)


def _devices(count: int) -> list[jax.Device]:
    """`count` devices of this machine, forced CPU ones where no backend has started yet."""
    with contextlib.suppress(RuntimeError):  # raised where a backend has started
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices()
    if len(devices) < count:
        raise UserError(
            f"the mesh has {count} devices and this machine {len(devices)}; a dry run needs no "
            "accelerator: set JAX_PLATFORMS=cpu, or give a smaller --mesh"
        )
    return devices[:count]
