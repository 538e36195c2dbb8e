#!/usr/bin/env python
"""Time and memory of the policy step: one row a group against one row a completion.

    python scripts/bench_policy_step.py [--model 30m] [--prompts 1] [--remat dots] [--repeats 3]
    python scripts/bench_policy_step.py --fill 0.4 --prompts 8     # packed rows, too

Layouts take turns in one process. With `--fill` below 1, prompts and completions use that share of
their width on average, and the packed layout is measured as well. Tokens a second are completion
tokens that the batch holds, the same for every layout. The ceiling is a large product measured in
this run; the share of it counts the products with weights that the layout computes.
"""

from dataclasses import dataclass

import jax
import tyro
from bench_models import decoder_config
from bench_steps import Shape, best_seconds, make_program, matmul_flops

from gdpo_jax.training.packing import computed_tokens


@dataclass(frozen=True)
class Options:
    """Model, batch and turns."""

    model: str = "30m"  # of bench_models.py
    prompts: int = 1  # groups
    num_samples: int = 8  # completions of each prompt
    prompt_length: int = 512  # tokens
    completion_length: int = 128  # tokens
    fill: float = 1.0  # mean share of these widths that is used
    chunk: int = 16  # completion positions whose logits exist at a time
    dtype: str = "float32"  # of the products
    remat: str = "dots"  # what the backward pass computes again: none, layer or dots
    repeats: int = 3  # turns of each layout, of which the best counts
    ceiling_size: int = 2048  # rows and columns of the product that sets the ceiling


def main(options: Options) -> None:
    """Prints a line a layout, and the ratios."""
    longest = options.prompt_length + options.completion_length
    changes = {"dtype": options.dtype, "remat": options.remat, "max_positions": longest}
    config = decoder_config(options.model, **changes)
    shape = Shape(
        options.prompts,
        options.num_samples,
        options.prompt_length,
        options.completion_length,
        options.fill,
    )
    layouts = ("shared", "plain", *(("packed",) if options.fill < 1 else ()))
    programs = {
        name: make_program(config, shape, layout=name, chunk=options.chunk) for name in layouts
    }
    programs = {name: program for name, program in programs.items() if program is not None}
    seconds = dict(
        zip(programs, best_seconds([program.run for program in programs.values()], options.repeats))
    )
    ceiling = matmul_flops(options.dtype, options.ceiling_size, options.repeats)
    print(
        f"{jax.devices()[0].device_kind}, {options.model}, {options.prompts} prompts, "
        f"P={options.prompt_length}, C={options.completion_length}, G={options.num_samples}, "
        f"fill {options.fill}, {options.dtype}, remat {options.remat}"
    )
    print(f"ceiling of products {ceiling / 1e9:11.1f} GFLOP/s")
    for name, program in programs.items():
        completion_tokens = int(program.batch.mask.sum())
        print(
            f"{name:7} {seconds[name]:9.3f} s, {completion_tokens / seconds[name]:9.1f} tokens/s, "
            f"{computed_tokens(program.batch, name):7d} computed, "
            f"{program.temporary_bytes / 2**20:9.1f} MiB temporary, "
            f"{program.flops / seconds[name] / ceiling:6.1%} of the ceiling"
        )
    shared = programs["shared"]
    for name in programs:
        if name != "shared":
            memory = programs[name].temporary_bytes / shared.temporary_bytes
            print(f"time {name} / shared    {seconds[name] / seconds['shared']:9.2f} x")
            print(f"memory {name} / shared  {memory:9.2f} x")


if __name__ == "__main__":
    main(tyro.cli(Options))
