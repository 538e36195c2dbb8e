#!/usr/bin/env python
"""Compilation and run time of a CPU policy step with each of XLA's two ways to write loops.

    python scripts/bench_compile.py [--model 30m] [--turns 3]

jaxlib before 0.11 has both; later releases have one, and this benchmark says so and stops. Each
turn starts a process of its own with an empty program cache, the ways one after the other.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import jax
import jaxlib
import tyro
from bench_models import decoder_config
from bench_steps import Shape, best_seconds, make_program

_FLAG = "--xla_cpu_use_fusion_emitters"
_WAYS = {"newer": "true", "older": "false"}


@dataclass(frozen=True)
class Options:
    """Model, batch and turns."""

    model: str = "tiny"  # of bench_models.py
    prompts: int = 8  # groups
    num_samples: int = 8  # completions of each prompt
    prompt_length: int = 80  # tokens
    completion_length: int = 88  # tokens
    turns: int = 3  # processes of each way, of which the best counts
    repeats: int = 10  # steps in each process, of which the best counts
    measure: bool = False  # what the processes are started with


def main(options: Options) -> None:
    """Prints a line a way, and the ratios."""
    if options.measure:
        print(json.dumps(_measured(options)))
        return
    if jaxlib.version.__version_info__ >= (0, 11):
        print(f"jaxlib {jaxlib.__version__} has one way to write loops; nothing to compare")
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in _WAYS}
    for _ in range(options.turns):
        for way, value in _WAYS.items():
            found[way].append(_turn(f"{_FLAG}={value}"))
    best = {
        way: {name: min(turn[name] for turn in turns) for name in turns[0]}
        for way, turns in found.items()
    }
    print(f"cpu, {options.model}, jaxlib {jaxlib.__version__}, best of {options.turns} processes")
    for way, values in best.items():
        print(f"{way:6} compiling {values['compile']:7.2f} s, a step {values['step']:7.4f} s")
    for name in ("compile", "step"):
        print(f"{name} newer / older {best['newer'][name] / best['older'][name]:6.2f} x")


def _turn(flag: str) -> dict[str, float]:
    environment = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip(),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    command = [sys.executable, *sys.argv, "--measure"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measured(options: Options) -> dict[str, float]:
    longest = options.prompt_length + options.completion_length
    config = decoder_config(options.model, max_positions=longest)
    shape = Shape(
        options.prompts, options.num_samples, options.prompt_length, options.completion_length, 1.0
    )
    began = time.perf_counter()
    program = make_program(config, shape, layout="shared", chunk=8)
    jax.block_until_ready(program.run())
    compiled = time.perf_counter() - began
    [step] = best_seconds([program.run], options.repeats)
    return {"compile": compiled, "step": step}


if __name__ == "__main__":
    main(tyro.cli(Options))
