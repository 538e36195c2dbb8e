#!/usr/bin/env python
"""Time and memory of the policy step with chunked log-probs, against logits of all tokens at once.

    python scripts/bench_log_probs.py [--prompts 8] [--completion-length 64] [--repeats 2]

The model is SmolLM2-135M with adapters, as `--preset smollm2` trains it. Three programs take turns
in one process; temporary memory is the compiler's plan:

    chunked    `completion_log_probs` with a chunk
    full       the same with chunk=None: all logits at once, derivative written out
    autodiff   a matmul, `jax.nn.log_softmax` of all logits and a gather, as it is usually written
"""

from dataclasses import dataclass
from unittest import mock

import jax
import jax.numpy as jnp
import tyro
from bench_models import decoder_config
from bench_steps import Program, Shape, best_seconds, make_program, matmul_flops

from gdpo_jax.policies import LoraConfig
from gdpo_jax.policies.log_probs import shared_hidden
from gdpo_jax.training import policy_step


@dataclass(frozen=True)
class Options:
    """Model, batch and turns."""

    model: str = "135m"  # of bench_models.py
    layers: int = 30  # SmolLM2-135M has 30
    lora_rank: int = 16  # of the adapters; 0 trains all parameters
    prompts: int = 8  # groups
    num_samples: int = 8  # completions of each prompt
    prompt_length: int = 64  # tokens
    completion_length: int = 64  # tokens
    chunk: int = 8  # completion positions whose logits exist at a time
    dtype: str = "float32"  # of the products
    remat: str = "layer"  # what the backward pass computes again: none, layer or dots
    repeats: int = 2  # turns of each, of which the best counts; 0 compiles alone, for the memory
    ceiling_size: int = 2048  # rows and columns of the product that sets the ceiling


def autodiff_log_probs(
    policy, params, prompts, prompt_lengths, completions, mask, *, temperature=1.0, **unused
):
    """In place of `completion_log_probs`: what a trainer without chunks computes."""
    hidden = shared_hidden(policy, params, prompts, prompt_lengths, completions)
    table = params.get("base", params)["embedding"].T.astype(hidden.dtype)
    logits = jnp.matmul(hidden, table, preferred_element_type=jnp.float32)
    every = jax.nn.log_softmax(logits / temperature, axis=-1)
    chosen = jnp.take_along_axis(every, completions[..., None], axis=-1)[..., 0]
    entropy = -jnp.sum(jnp.exp(every) * every, axis=-1)
    return jnp.where(mask, chosen, 0.0), jnp.where(mask, entropy, 0.0)


def make_programs(options: Options, shape: Shape, config) -> dict[str, Program]:
    """The three by name."""
    lora = None
    if options.lora_rank:
        lora = LoraConfig(rank=options.lora_rank, alpha=2.0 * options.lora_rank)

    def make(chunk):
        return make_program(config, shape, layout="shared", chunk=chunk, lora=lora)

    programs = {"chunked": make(options.chunk), "full": make(None)}
    # A step is made once for the same arguments, with this function or without it.
    policy_step.make_policy_step.cache_clear()
    with mock.patch.object(policy_step, "completion_log_probs", autodiff_log_probs):
        programs["autodiff"] = make(None)
    policy_step.make_policy_step.cache_clear()
    return programs


def main(options: Options) -> None:
    """Prints a line for each, and the ratios."""
    config = decoder_config(
        options.model,
        num_layers=options.layers,
        dtype=options.dtype,
        remat=options.remat,
        max_positions=options.prompt_length + options.completion_length,
    )
    shape = Shape(
        options.prompts,
        options.num_samples,
        options.prompt_length,
        options.completion_length,
    )
    programs = make_programs(options, shape, config)
    trained = f"LoRA of rank {options.lora_rank}" if options.lora_rank else "all parameters"
    print(
        f"{jax.devices()[0].device_kind}, {options.layers} layers, {trained}, "
        f"vocabulary {config.vocab_size}, {options.prompts} prompts, P={options.prompt_length}, "
        f"C={options.completion_length}, G={options.num_samples}, {options.dtype}, "
        f"remat {options.remat}"
    )
    memory = {name: program.temporary_bytes for name, program in programs.items()}
    for name, size in memory.items():
        print(f"{name:9} {size / 2**20:9.1f} MiB temporary")
    for name in ("full", "autodiff"):
        print(f"memory {name} / chunked {memory[name] / memory['chunked']:9.2f} x")
    if not options.repeats:
        return
    seconds = best_seconds([program.run for program in programs.values()], options.repeats)
    times = dict(zip(programs, seconds))
    ceiling = matmul_flops(options.dtype, options.ceiling_size, options.repeats)
    print(f"ceiling of products {ceiling / 1e9:11.1f} GFLOP/s")
    for name, took in times.items():
        print(f"{name:9} {took:9.3f} s")
    for name in ("full", "autodiff"):
        print(f"time {name} / chunked {times[name] / times['chunked']:9.2f} x")


if __name__ == "__main__":
    main(tyro.cli(Options))
