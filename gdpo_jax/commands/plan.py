"""`plan`: what a run would take on chips that nobody has yet, from the command line."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import jax

from gdpo_jax.commands.running import mesh_config
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.planning.chips import open_pod
from gdpo_jax.planning.comparison import MeshPlan, candidate_meshes, plan_meshes
from gdpo_jax.planning.steps import (
    PlannedStep,
    plan_log_probs,
    plan_policy_step,
    plan_sampler,
    plan_sft,
)
from gdpo_jax.planning.table import plan_rows, print_comparison, wide_console
from gdpo_jax.policies import (
    DecoderConfig,
    LoraConfig,
    Policy,
    decoder_policy,
    lora_policy,
)
from gdpo_jax.policies.families import gemma3, llama3, qwen3, qwen25, smollm2
from gdpo_jax.policies.files.hub_config import config_from_hub
from gdpo_jax.policies.files.json_files import read_json
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.training import (
    MeshConfig,
    OptimizerConfig,
    PolicyOptimizationConfig,
    SFTConfig,
    make_mesh,
)

__all__ = ["plan"]

Step = Literal["supervised", "policy", "log-probs", "sampler"]
FAMILIES = {
    "llama": llama3,
    "qwen2.5": qwen25,
    "qwen3": qwen3,
    "smollm2": smollm2,
    "gemma3": gemma3,
}


def plan(
    *,
    model: str,
    chips: str,
    mesh: tuple[str, ...] = (),
    steps: tuple[Step, ...] = ("supervised", "policy", "log-probs", "sampler"),
    prompt_length: int = 1024,
    max_new_tokens: int = 512,
    num_samples: int = 8,
    prompts_per_step: int | None = None,
    micro_batch: int = 1,
    kl_coef: float = 0.0,
    lora_rank: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
    param_dtype: Literal["float32", "bfloat16", "int8", "int4"] | None = None,
    remat: Literal["none", "layer", "dots"] = "layer",
    layout: Literal["shared", "plain"] = "shared",
    chunk: int = 16,
    save: Path | None = None,
) -> None:
    """Compile the steps of a run for chips that need not exist: memory, exchanges, least time.

    By the TPU compiler where libtpu is installed (extra tpu), else for forced CPU devices.

    Args:
        model: an architecture without weights, such as llama-3.1-8b, llama-3.2-1b, qwen2.5-7b or
            smollm2-135m, or a folder with a config.json.
        chips: TYPE:SHAPE, such as v5e:4x4, v5p:2x2x4, v6e:4x4, h100:8 or rtx4090:1.
        mesh: one or more of DATAxFSDPxTENSOR, such as 1x16x1 1x2x8; every split of the model's
            heads unless given, the rest on fsdp.
        steps: which programs; a supervised step has as many rows as a policy step has completions.
        prompt_length: tokens of a prompt, padding included.
        max_new_tokens: longest completion.
        num_samples: completions of each prompt.
        prompts_per_step: over all chips; one for each chip unless given.
        micro_batch: prompts whose gradients are computed at a time on each shard of the rows.
        kl_coef: weight of a KL term: with one, a copy of the parameters is kept as the reference.
        lora_rank: trains adapters of this rank instead of all parameters.
        dtype: of matrix products.
        param_dtype: in what matrices are held that only adapters are trained beside; float32 unless
            given.
        remat: what the backward pass computes again.
        layout: of a prompt and its completions in an update.
        chunk: completion positions whose logits exist at a time.
        save: JSON to write, one row for each mesh and step.
    """
    for name, value in (
        ("prompt-length", prompt_length),
        ("max-new-tokens", max_new_tokens),
        ("num-samples", num_samples),
        ("micro-batch", micro_batch),
    ):
        if value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    config = dataclasses.replace(_decoder(model), dtype=dtype, param_dtype=param_dtype, remat=remat)
    pod = open_pod(chips)
    count = len(pod.devices)
    meshes = [mesh_config(text) for text in mesh] or candidate_meshes(config, count)
    policy = decoder_policy(config)
    if lora_rank is not None:
        policy = lora_policy(policy, LoraConfig(rank=lora_rank, alpha=2.0 * lora_rank))
    objective = ObjectiveConfig(kl="k3", kl_coef=kl_coef) if kl_coef else ObjectiveConfig()
    prompts = count if prompts_per_step is None else prompts_per_step
    sampler = SamplerConfig(max_new_tokens=max_new_tokens, stop_ids=(0,), pad_id=0)

    def planned(sizes: MeshConfig) -> list[PlannedStep]:
        mesh = make_mesh(sizes, pod.devices)
        parts = _parts(prompts, micro_batch, sizes)
        optimization = PolicyOptimizationConfig(
            steps=1,
            prompts_per_step=prompts,
            num_samples=num_samples,
            prompt_buckets=(prompt_length,),
            accumulation_steps=parts,
            layout=layout,
            chunk=chunk,
        )
        # As many completions as in a policy step, each with a prompt of its own.
        supervised = SFTConfig(
            steps=1,
            batch_size=prompts * num_samples,
            prompt_buckets=(prompt_length,),
            completion_buckets=(max_new_tokens,),
            accumulation_steps=parts * num_samples,
            layout=layout,
            chunk=chunk,
        )
        return _programs(steps, policy, objective, optimization, supervised, sampler, mesh)

    plans: list[MeshPlan] = []
    for found in plan_meshes(meshes, pod, planned):
        plans.append(found)
        if save is not None:
            write_beside(save, json.dumps(plan_rows(plans), indent=1).encode())
    print_comparison(model, policy, pod, plans, wide_console())


def _programs(
    steps: tuple[Step, ...],
    policy: Policy,
    objective: ObjectiveConfig,
    optimization: PolicyOptimizationConfig,
    supervised: SFTConfig,
    sampler: SamplerConfig,
    mesh: jax.sharding.Mesh,
) -> list[PlannedStep]:
    optimizer = OptimizerConfig()
    shared = (policy, optimizer, objective, optimization, sampler)
    planned = {
        "supervised": lambda: plan_sft(policy, optimizer, supervised, mesh=mesh),
        "policy": lambda: plan_policy_step(*shared, mesh=mesh),
        "log-probs": lambda: plan_log_probs(*shared, mesh=mesh),
        "sampler": lambda: plan_sampler(*shared, mesh=mesh),
    }
    return [make() for name, make in planned.items() if name in steps]


def _parts(prompts: int, micro_batch: int, mesh: MeshConfig) -> int:
    """Micro-batches of a step, each of `micro_batch` prompts on every shard of the rows."""
    at_once = micro_batch * mesh.data * mesh.fsdp
    if prompts % at_once:
        raise UserError(
            f"--prompts-per-step {prompts} is not divisible by {at_once} ({micro_batch} at a time "
            f"on each of {mesh.data * mesh.fsdp} shards of the rows); use a multiple of it"
        )
    return prompts // at_once


def _decoder(model: str) -> DecoderConfig:
    """The architecture of a folder, or of FAMILY-SIZE."""
    file = Path(model) / "config.json"
    if file.is_file():
        return config_from_hub(read_json(file), str(file)).config
    name = model.lower()
    for family, make in FAMILIES.items():
        if name.startswith(f"{family}-"):
            # The tables of families write sizes as 3.1-8B and 270M.
            return make(name.removeprefix(f"{family}-").upper())
    raise UserError(
        f"--model {model!r} is neither a folder with a config.json nor FAMILY-SIZE, such as "
        f"llama-3.1-8b; families are {', '.join(FAMILIES)}"
    )
