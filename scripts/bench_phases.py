#!/usr/bin/env python
"""Where a small step's time goes: its programs one by one, and the fetching of its metrics.

    python scripts/bench_phases.py [--model tiny] [--repeats 60]

Of the sampler and the update: time and core-time of a call, whose ratio is how many cores it keeps
busy, and the kernels (fusions and products) of its largest loops. Metrics are fetched one by one
and stacked.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tyro
from bench_models import decoder_config
from bench_steps import Shape, make_program

from gdpo_jax.planning.hlo import parse
from gdpo_jax.policies import decoder_policy
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.rollouts.engine import sampler_program
from gdpo_jax.training import batch_sharding, make_mesh, replicated
from gdpo_jax.training.stacked_metrics import stack_metrics

KERNELS = ("fusion", "dot", "convolution")


@dataclass(frozen=True)
class Options:
    """Model, shapes and repeats."""

    model: str = "tiny"  # of `MODELS`
    prompts: int = 2  # prompts a step
    num_samples: int = 8  # completions of each prompt
    prompt_length: int = 256  # tokens
    completion_length: int = 64  # tokens
    chunk: int = 64  # tokens whose logits exist at a time
    remat: str = "dots"  # what the backward pass keeps
    metrics: int = 66  # scalars of a step that are fetched
    repeats: int = 60  # calls of each


def main(options: Options) -> None:
    """Prints all numbers."""
    mesh = make_mesh()
    rows = (options.prompts, options.num_samples, options.prompt_length, options.completion_length)
    config = decoder_config(options.model, max_positions=sum(rows[2:]), remat=options.remat)
    update = make_program(config, Shape(*rows), layout="shared", chunk=options.chunk)
    sampler = SamplerConfig(max_new_tokens=options.completion_length, stop_ids=(), pad_id=0)
    draw = sampler_program(
        decoder_policy(config), sampler, options.num_samples, batch_sharding(mesh)
    )
    prompts = np.zeros((options.prompts, options.prompt_length), np.int32)
    lengths = np.full(options.prompts, options.prompt_length, np.int32)
    given = jax.device_put((prompts, lengths), batch_sharding(mesh))
    compiled = draw.lower(update.state.params, *given, jax.random.key(0)).compile()
    calls = {
        "sampler": (lambda: compiled(update.state.params, *given, jax.random.key(0)), compiled),
        "update": (update.run, update.compiled),
    }
    for name, (call, program) in calls.items():
        print(
            f"{name:8} {timed(call, options.repeats)}; kernels of the entry and of loops: "
            f"{kernels(program.as_text())}"
        )
    make = jax.jit(
        lambda x: {f"metric {number}": x + number for number in range(options.metrics)},
        out_shardings=replicated(mesh),
    )
    for name, get in {"one by one": jax.device_get, "stacked": stacked}.items():
        seconds = []
        for _ in range(options.repeats):
            metrics = jax.block_until_ready(make(1.0))
            start = time.perf_counter()
            get(metrics)
            seconds.append(time.perf_counter() - start)
        print(f"{options.metrics} metrics, {name}: {1e3 * statistics.median(seconds):.3f} ms")


def stacked(metrics: dict[str, jax.Array]) -> Any:
    return stack_metrics([], metrics).on_host()


def timed(call: Callable[[], Any], repeats: int) -> str:
    """Milliseconds of a call: its median and fastest time, and its median core-time."""
    jax.block_until_ready(call())
    times, used = [], []
    for _ in range(repeats):
        start, before = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - start))
        used.append(1e3 * (time.process_time() - before))
    return (
        f"{statistics.median(times):.2f} ms (fastest {min(times):.2f}), "
        f"{statistics.median(used):.2f} core-ms"
    )


def kernels(text: str) -> list[int]:
    """How many kernels the entry of a compiled program has, and then its largest loop bodies."""
    module = parse(text)
    counts = {
        name: sum(each.op in KERNELS for each in computation.instructions.values())
        for name, computation in module.computations.items()
    }
    bodies = {
        body
        for computation in module.computations.values()
        for each in computation.instructions.values()
        for body in each.called("body")
    }
    return [counts[module.entry], *sorted((counts[body] for body in bodies), reverse=True)[:3]]


if __name__ == "__main__":
    main(tyro.cli(Options))
