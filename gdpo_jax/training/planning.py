"""A plan of a run: its steps compiled on shapes alone at their widest, and what each device holds.

Nothing of the model is allocated, and nothing is read or written.
"""

import contextlib
import dataclasses
from collections.abc import Sequence

import jax
import optax
from rich.console import Console
from rich.table import Table

from gdpo_jax.data import user_slots
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import Policy, num_params
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.training.config import PolicyOptimizationConfig, SFTConfig
from gdpo_jax.training.dry_run import (
    StepMemory,
    abstract_batch,
    abstract_sft_batch,
    policy_step_memory,
    sampler_memory,
    sft_step_memory,
)
from gdpo_jax.training.mesh import AXES, batch_shards, check_batch
from gdpo_jax.training.optimizers import OptimizerConfig, make_optimizer
from gdpo_jax.training.sft_step import Loss
from gdpo_jax.training.user_clipping import UserClipping

__all__ = [
    "PlannedStep",
    "plan_answers",
    "plan_devices",
    "plan_optimization",
    "plan_sft",
    "print_plan",
]

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """One compiled step. reference: bytes a device holds besides, of a reference policy's copy."""

    name: str
    shapes: str
    memory: StepMemory
    reference: int = 0


def plan_sft(
    policy: Policy,
    optimizer: OptimizerConfig,
    config: SFTConfig,
    *,
    mesh: jax.sharding.Mesh,
    loss: Loss | None = None,
    with_labels: bool = False,
    users: UserClipping | None = None,
) -> PlannedStep:
    """Memory of the supervised step. loss: of one's own (`make_sft_step`), with_labels: that it
    reads labels. users: clip their gradients, at the places that nearly every batch fits in.

    Raises UserError where sizes do not divide over the mesh or exceed the decoder's positions.
    """
    if users is None:
        rows = config.batch_size
        check_batch(rows, mesh, parts=config.accumulation_steps, what="batch_size")
        parts = f"{config.accumulation_steps} micro-batches"
    else:
        at_once = batch_shards(mesh) * users.users_at_once
        rows = user_slots(config.batch_size, unit=at_once) * users.rows_per_user
        parts = f"{at_once} users at a time"
    prompt, completion = max(config.prompt_buckets), max(config.completion_buckets, default=0)
    memory = sft_step_memory(
        policy,
        make_optimizer(optimizer),
        abstract_sft_batch(
            batch_size=rows,
            prompt_length=prompt,
            completion_length=completion,
            mesh=mesh,
            with_labels=with_labels,
        ),
        mesh=mesh,
        accumulation_steps=config.accumulation_steps,
        layout=config.layout,
        chunk=config.chunk,
        loss=loss,
        users=users,
        expected_users=1 if users is None else config.batch_size,
    )
    shapes = f"{rows} rows, prompt {prompt}, completion {completion}, {parts}"
    return PlannedStep("supervised step", shapes, memory)


def plan_optimization(
    policy: Policy,
    optimizer: OptimizerConfig,
    objective: ObjectiveConfig,
    config: PolicyOptimizationConfig,
    sampler: SamplerConfig,
    *,
    mesh: jax.sharding.Mesh,
    with_segments: bool = False,
) -> list[PlannedStep]:
    """Memory of the policy step and of the sampler; errors as in `plan_sft`.

    with_segments: tokens carry the rank of a list that they belong to.
    """
    parts = config.mini_batches * config.accumulation_steps
    check_batch(config.prompts_per_step, mesh, parts=parts, what="prompts_per_step")
    transformation = make_optimizer(optimizer)
    width, length = max(config.prompt_buckets), sampler.max_new_tokens
    sizes = {
        "prompts": config.prompts_per_step,
        "num_samples": config.num_samples,
        "prompt_length": width,
    }
    updated = policy_step_memory(
        policy,
        transformation,
        objective,
        abstract_batch(
            **sizes,
            completion_length=length,
            mesh=mesh,
            with_reference=objective.needs_reference,
            with_old=config.num_iterations * config.mini_batches > 1,
            with_segments=with_segments,
        ),
        mesh=mesh,
        accumulation_steps=config.accumulation_steps,
        temperature=config.temperature,
        layout=config.layout,
        chunk=config.chunk,
    )
    sampled = sampler_memory(policy, transformation, sampler, **sizes, mesh=mesh)
    copied = objective.needs_reference and policy.reference is None
    reference = updated.parameters if copied else 0
    rows = (
        f"{config.prompts_per_step} prompts of {width}, {config.num_samples} completions of "
        f"{length} each"
    )
    shapes = f"{rows}, {config.accumulation_steps} micro-batches"
    return [
        PlannedStep("policy step", shapes, updated, reference),
        PlannedStep("sampler", rows, sampled, reference),
    ]


def plan_answers(
    policy: Policy,
    sampler: SamplerConfig,
    *,
    batch_size: int,
    prompt_length: int,
    mesh: jax.sharding.Mesh,
) -> PlannedStep:
    """Memory of `gdpo_jax.answers.answer`, without an optimizer; errors as in `plan_sft`.

    batch_size: prompts decoded together, rounded up to the mesh as there.
    """
    unit = batch_shards(mesh)
    rows = -(-batch_size // unit) * unit
    memory = sampler_memory(
        policy,
        optax.identity(),
        sampler,
        prompts=rows,
        num_samples=1,
        prompt_length=prompt_length,
        mesh=mesh,
    )
    shapes = f"{rows} prompts of {prompt_length}, one answer of {sampler.max_new_tokens} each"
    return PlannedStep("answers", shapes, memory)


def print_plan(
    title: str,
    policy: Policy,
    steps: Sequence[PlannedStep],
    *,
    mesh: jax.sharding.Mesh,
    console: Console,
) -> None:
    """The model's size, a line of shapes for each step, and a table of GiB a device."""
    config = policy.config
    params = jax.eval_shape(policy.init, jax.random.key(0))
    console.print(
        f"{title}: {num_params(params) / 1e6:.0f}M parameters, {config.num_layers} layers, "
        f"{config.dtype} products, {config.remat} remat, mesh data x fsdp x tensor "
        f"{'x'.join(str(mesh.shape[axis]) for axis in AXES)}",
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


def plan_devices(count: int) -> list[jax.Device]:
    """`count` devices of this machine, forced CPU ones where no backend has started yet.

    Raises UserError where there are fewer.
    """
    with contextlib.suppress(RuntimeError):  # raised where a backend has started
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices()
    if len(devices) < count:
        raise UserError(
            f"the mesh has {count} devices and this machine {len(devices)}; a dry run needs no "
            "accelerator: set JAX_PLATFORMS=cpu, or give a smaller --mesh"
        )
    return devices[:count]
