#!/usr/bin/env python
"""Time and memory of shared-prompt attention without the blocks that a dense mask would hide.

    taskset -c 0 python scripts/bench_attention.py [--prompts 1024 2048] [--num-samples 8]

One layer, one row of a prompt and its G completions, forward and backward. "blocks" is what the
shared layout computes; "dense" is one product of all tokens with all, under the same mask. Both
take turns in one process; outputs and gradients are compared before anything is timed.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from bench_steps import best_seconds

from gdpo_jax.policies.attention import masked
from gdpo_jax.policies.group_attention import grouped


@dataclass(frozen=True)
class Options:
    """Sizes and turns."""

    prompts: tuple[int, ...] = (1024, 2048)  # tokens of the prompt, one line each
    num_samples: int = 8  # completions behind it
    completion_length: int = 64  # tokens of each
    heads: int = 8  # query heads, and as many key heads
    head_dim: int = 64  # size of each
    repeats: int = 5  # turns, of which the best counts


def group_mask(prompt: int, samples: int, length: int) -> np.ndarray:
    """What each token of the row [P + G*C] may see: its prompt, and itself, up to itself."""
    owner = np.concatenate([np.full(prompt, -1), np.repeat(np.arange(samples), length)])
    slots = np.arange(owner.size)
    same = (owner[None, :] == -1) | (owner[:, None] == owner[None, :])
    return (same & (slots[:, None] >= slots[None, :]))[None]


def measure(prompt: int, options: Options) -> dict[str, tuple[float, int]]:
    """Seconds and temporary bytes of both, after a comparison of what they compute."""
    samples, length = options.num_samples, options.completion_length
    shape = (1, prompt + samples * length, options.heads, options.head_dim)
    draw = np.random.default_rng(0).normal
    arrays = [jnp.asarray(draw(size=shape), jnp.float32) for _ in range(3)]
    lengths = jnp.array([prompt], jnp.int32)
    layouts = {
        "dense": masked(jnp.asarray(group_mask(prompt, samples, length))),
        "blocks": grouped(lengths, prompt_size=prompt, num_samples=samples),
    }

    def compiled(attend):
        def loss(queries, keys, values):
            return jnp.sum(attend(queries, keys, values, None, None)[0] ** 2)

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(*arrays).compile()

    programs = {name: compiled(attend) for name, attend in layouts.items()}
    found = [jax.tree.leaves(program(*arrays)) for program in programs.values()]
    for dense, blocks in zip(*found):
        np.testing.assert_allclose(blocks, dense, rtol=1e-3, atol=1e-3)
    runs = [functools.partial(_run, program, arrays) for program in programs.values()]
    seconds = best_seconds(runs, options.repeats)
    memory = [program.memory_analysis().temp_size_in_bytes for program in programs.values()]
    return dict(zip(programs, zip(seconds, memory)))


def _run(program, arrays) -> None:
    jax.block_until_ready(program(*arrays))


def main(options: Options) -> None:
    """Prints a line for each prompt length."""
    sizes = f"G={options.num_samples}, C={options.completion_length}"
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, {sizes}")
    print(f"{'P':>6}{'dense, ms':>12}{'blocks, ms':>12}{'time':>9}{'memory':>9}  dense / blocks")
    for prompt in options.prompts:
        (dense, dense_bytes), (blocks, blocks_bytes) = measure(prompt, options).values()
        times = f"{prompt:6d}{1e3 * dense:12.1f}{1e3 * blocks:12.1f}"
        print(f"{times}{dense / blocks:8.2f}x{dense_bytes / blocks_bytes:8.2f}x")


if __name__ == "__main__":
    main(tyro.cli(Options))
