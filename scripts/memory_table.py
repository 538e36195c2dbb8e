#!/usr/bin/env python
"""What one device must hold in the policy step of a large model, by compilation alone.

    JAX_PLATFORMS=cpu python scripts/memory_table.py [--model 3.1-8B] [--meshes 1x16x1 1x4x4 1x64x1]

Forces as many CPU devices as the largest mesh has, compiles the step on abstract values, and prints
one row a mesh (data x fsdp x tensor). Nothing of the model is allocated. Temporary memory is this
backend's plan; a TPU or GPU compiler may plan less.
"""

import math
from dataclasses import dataclass

import jax
import tyro
from rich.console import Console
from rich.table import Table

from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import decoder_policy
from gdpo_jax.policies.families import llama3
from gdpo_jax.training import MeshConfig, OptimizerConfig, make_mesh, make_optimizer
from gdpo_jax.training.dry_run import abstract_batch, policy_step_memory

GIB = 2**30


@dataclass(frozen=True)
class Options:
    """Model, meshes and batch of the table."""

    model: str = "3.1-8B"  # a size of the Llama 3 family
    meshes: tuple[str, ...] = ("1x16x1", "1x4x4", "1x64x1", "1x8x8")  # data x fsdp x tensor
    prompts_per_shard: int = 1  # prompts on each piece of the batch axis
    num_samples: int = 8  # completions of each prompt
    prompt_length: int = 1024  # tokens
    completion_length: int = 512  # tokens
    layout: str = "shared"  # of a prompt and its completions: shared or plain
    chunk: int = 16  # completion positions whose logits exist at a time
    remat: str = "layer"  # what the backward pass computes again: none, layer or dots


def main(options: Options) -> None:
    """Prints the table."""
    meshes = [tuple(int(size) for size in mesh.split("x")) for mesh in options.meshes]
    jax.config.update("jax_num_cpu_devices", max(math.prod(mesh) for mesh in meshes))
    longest = options.prompt_length + options.completion_length
    config = llama3(options.model, dtype="bfloat16", remat=options.remat, max_positions=longest)
    policy, optimizer = decoder_policy(config), make_optimizer(OptimizerConfig())
    table = Table(
        title=f"Llama {options.model}, GiB a device: {options.prompts_per_shard} prompts a shard, "
        f"G={options.num_samples}, P={options.prompt_length}, C={options.completion_length}, "
        f"{options.layout} layout, {options.remat} remat, bfloat16 products",
        title_justify="left",
    )
    columns = ("parameters", "optimizer", "batch", "temporary", "total")
    for heading in ("data x fsdp x tensor", *columns):
        table.add_column(heading, justify="right")
    for sizes in meshes:
        mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: math.prod(sizes)])
        batch = abstract_batch(
            prompts=options.prompts_per_shard * sizes[0] * sizes[1],
            num_samples=options.num_samples,
            prompt_length=options.prompt_length,
            completion_length=options.completion_length,
            mesh=mesh,
        )
        memory = policy_step_memory(
            policy,
            optimizer,
            ObjectiveConfig(),
            batch,
            mesh=mesh,
            layout=options.layout,
            chunk=options.chunk,
        )
        cells = (f"{getattr(memory, column) / GIB:.2f}" for column in columns)
        table.add_row("x".join(map(str, sizes)), *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
