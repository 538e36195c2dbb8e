#!/usr/bin/env python
"""Time and memory of the policy step with chunked log-probs, against logits of all tokens at once.

    python scripts/bench_log_probs.py [--layers 4] [--prompts 4] [--chunk 16] [--repeats 3]

The model is SmolLM2-135M with fewer layers: its vocabulary of 49,152 and width of 576 are what
matters here. Both programs take turns in one process; temporary memory is the compiler's plan.
"""

from dataclasses import dataclass

import jax
import tyro
from bench_models import decoder_config
from bench_steps import Shape, best_seconds, make_program, matmul_flops


@dataclass(frozen=True)
class Options:
    """Model, batch and turns."""

    model: str = "135m"  # of bench_models.py
    layers: int = 4  # of the 30 that SmolLM2-135M has
    prompts: int = 4  # groups
    num_samples: int = 8  # completions of each prompt
    prompt_length: int = 64  # tokens
    completion_length: int = 64  # tokens
    chunk: int = 16  # completion positions whose logits exist at a time
    dtype: str = "float32"  # of the products
    remat: str = "layer"  # what the backward pass computes again: none, layer or dots
    repeats: int = 3  # turns of each, of which the best counts
    ceiling_size: int = 2048  # rows and columns of the product that sets the ceiling


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
    chunked, full = (
        make_program(config, shape, layout="shared", chunk=chunk) for chunk in (options.chunk, None)
    )
    seconds = best_seconds([chunked.run, full.run], options.repeats)
    ceiling = matmul_flops(options.dtype, options.ceiling_size, options.repeats)
    print(
        f"{jax.devices()[0].device_kind}, {options.layers} layers, "
        f"vocabulary {config.vocab_size}, {options.prompts} prompts, P={options.prompt_length}, "
        f"C={options.completion_length}, G={options.num_samples}, {options.dtype}, "
        f"remat {options.remat}"
    )
    print(f"ceiling of products {ceiling / 1e9:11.1f} GFLOP/s")
    for name, program, time in zip(("chunked", "full"), (chunked, full), seconds):
        print(
            f"{name:7} {time:9.3f} s, {program.temporary_bytes / 2**20:9.1f} MiB temporary, "
            f"{program.flops / time / ceiling:6.1%} of the ceiling"
        )
    print(f"memory full / chunked {full.temporary_bytes / chunked.temporary_bytes:9.2f} x")
    print(f"time chunked / full   {seconds[0] / seconds[1]:9.2f} x")


if __name__ == "__main__":
    main(tyro.cli(Options))
