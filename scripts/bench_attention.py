#!/usr/bin/env python
"""Time and memory of shared-prompt attention: what is left out, and what runs in blocks.

    taskset -c 0 python scripts/bench_attention.py layouts [--prompts 1024 2048] [--num-samples 8]
    taskset -c 0 python scripts/bench_attention.py lengths [--lengths 256 512 1024 2048]
    python scripts/bench_attention.py plan [--lengths 1024 4096]

One layer, one row of a prompt and its G completions, forward and backward. "layouts": the blocks
that a dense mask would hide are not computed ("blocks"), against one product of all tokens with all
under that mask ("dense"). "lengths": completions that hold their scores ("whole") against those
that run in blocks of queries and keys ("blocks"), at growing lengths. What is compared takes turns
in one process; outputs and gradients are compared before anything is timed. "plan": the temporary
memory that the compiler plans for whole and for blocks, by default of one layer with the heads of
Llama 3.1-8B; nothing is run.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from bench_steps import best_seconds

from gdpo_jax.policies.attention import Attend, masked
from gdpo_jax.policies.block_attention import BLOCK
from gdpo_jax.policies.group_attention import grouped
from gdpo_jax.policies.long_attention import long_grouped


@dataclass(frozen=True)
class Sizes:
    """Of one row and its heads."""

    prompt: int  # tokens of the prompt
    samples: int  # completions behind it
    length: int  # tokens of each
    heads: int  # query heads
    kv_heads: int  # key heads
    head_dim: int  # size of each

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of queries, keys and values."""
        tokens = self.prompt + self.samples * self.length
        return [(1, tokens, n, self.head_dim) for n in (self.heads, self.kv_heads, self.kv_heads)]


def dense(sizes: Sizes) -> Attend:
    """All tokens with all: each sees the row's prompt and its completion, up to itself."""
    samples, length = sizes.samples, sizes.length
    owner = np.concatenate([np.full(sizes.prompt, -1), np.repeat(np.arange(samples), length)])
    slots = np.arange(owner.size)
    same = (owner[None, :] == -1) | (owner[:, None] == owner[None, :])
    return masked(jnp.asarray((same & (slots[:, None] >= slots[None, :]))[None]))


def whole(sizes: Sizes) -> Attend:
    """Each completion with its prompt and itself, all scores at once."""
    lengths = jnp.array([sizes.prompt], jnp.int32)
    return grouped(lengths, prompt_size=sizes.prompt, num_samples=sizes.samples)


def blocks(sizes: Sizes, *, block: int = BLOCK) -> Attend:
    """The same in blocks of queries and keys."""
    lengths = jnp.array([sizes.prompt], jnp.int32)
    return long_grouped(
        lengths,
        prompt_size=sizes.prompt,
        num_samples=sizes.samples,
        length=sizes.length,
        block=block,
    )


def compiled(attend: Callable[[Sizes], Attend], sizes: Sizes, dtype: str) -> jax.stages.Compiled:
    """A loss and its gradients."""

    def loss(queries, keys, values):
        mixed = attend(sizes)(queries, keys, values, None, None)[0]
        return jnp.sum(mixed.astype(jnp.float32) ** 2)

    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape in sizes.shapes]
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(*arrays).compile()


def compare(
    attends: list[Callable[[Sizes], Attend]], sizes: Sizes, repeats: int
) -> list[tuple[float, int]]:
    """Seconds and temporary bytes of each, after a comparison of what they compute."""
    draw = np.random.default_rng(0).normal
    arrays = [jnp.asarray(draw(size=shape), jnp.float32) for shape in sizes.shapes]
    programs = [compiled(attend, sizes, "float32") for attend in attends]
    first, *others = [jax.tree.leaves(program(*arrays)) for program in programs]
    for found in others:
        for want, have in zip(first, found):
            np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-3)
    runs = [functools.partial(_run, program, arrays) for program in programs]
    memory = [program.memory_analysis().temp_size_in_bytes for program in programs]
    return list(zip(best_seconds(runs, repeats), memory))


def _run(program, arrays) -> None:
    jax.block_until_ready(program(*arrays))


def _head(kind: str, first: str, second: str) -> None:
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}")
    names = f"{kind:>6}{first + ', ms':>12}{second + ', ms':>12}"
    print(f"{names}{'time':>9}{'memory':>9}  {first} / {second}")


def _line(size: int, found: list[tuple[float, int]]) -> None:
    (one, one_bytes), (other, other_bytes) = found
    times = f"{size:6d}{1e3 * one:12.1f}{1e3 * other:12.1f}"
    print(f"{times}{one / other:8.2f}x{one_bytes / other_bytes:8.2f}x")


def layouts(
    prompts: tuple[int, ...] = (1024, 2048),
    num_samples: int = 8,
    completion_length: int = 64,
    heads: int = 8,
    head_dim: int = 64,
    repeats: int = 5,
) -> None:
    """A line for each prompt length; as many key heads as query heads."""
    _head("P", "dense", "blocks")
    for prompt in prompts:
        sizes = Sizes(prompt, num_samples, completion_length, heads, heads, head_dim)
        _line(prompt, compare([dense, whole], sizes, repeats))


def lengths(
    lengths: tuple[int, ...] = (256, 512, 1024, 2048),
    prompt: int = 512,
    num_samples: int = 4,
    heads: int = 8,
    kv_heads: int = 4,
    head_dim: int = 64,
    block: int = BLOCK,
    repeats: int = 5,
) -> None:
    """A line for each completion length."""
    _head("C", "whole", "blocks")
    for length in lengths:
        sizes = Sizes(prompt, num_samples, length, heads, kv_heads, head_dim)
        pair = [whole, functools.partial(blocks, block=block)]
        _line(length, compare(pair, sizes, repeats))


def plan(
    lengths: tuple[int, ...] = (1024, 4096),
    prompt: int = 512,
    num_samples: int = 8,
    heads: int = 32,
    kv_heads: int = 8,
    head_dim: int = 128,
    dtype: str = "bfloat16",
) -> None:
    """A line of planned temporary memory for each completion length."""
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}")
    print(f"{'C':>6}{'whole, GiB':>12}{'blocks, GiB':>12}")
    for length in lengths:
        sizes = Sizes(prompt, num_samples, length, heads, kv_heads, head_dim)
        found = [compiled(attend, sizes, dtype).memory_analysis() for attend in (whole, blocks)]
        print(f"{length:6d}" + "".join(f"{x.temp_size_in_bytes / 2**30:12.2f}" for x in found))


if __name__ == "__main__":
    commands = {"layouts": layouts, "lengths": lengths, "plan": plan}
    tyro.extras.subcommand_cli_from_dict(commands)
