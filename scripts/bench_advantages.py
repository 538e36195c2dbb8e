#!/usr/bin/env python
"""Time and memory of GDPO on [4096 prompts, 16 samples, 8 rewards], against a loop over prompts.

    python scripts/bench_advantages.py [--prompts 4096] [--samples 16] [--rewards 8] [--repeats 20]
                                       [--copy-megabytes 256]

The loop is in the style of the torch trainers: one prompt and one reward at a time, NumPy, then one
batch normalisation. The memory bandwidth is measured in the same run by copying a large array, so
that the printed shares mean the same on every machine. The least traffic of GDPO is one read of
the rewards and their mask and one write of the advantages.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gdpo_jax.advantages import RewardBatch, compute_advantages, gdpo


def best_seconds(run: Callable[[], object], repeats: int) -> float:
    """The fastest of several runs: the others measure the neighbours."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return min(times)


def loop_over_prompts(values: np.ndarray) -> np.ndarray:
    """GDPO as peers write it: prompts outside, rewards inside."""
    sums = np.zeros(values.shape[:2], np.float32)
    for b in range(values.shape[0]):
        for k in range(values.shape[2]):
            group = values[b, :, k]
            sums[b] += (group - group.mean()) / (group.std(ddof=1) + 1e-4)
    return (sums - sums.mean()) / (sums.std(ddof=1) + 1e-4)


def peak_bytes(run: Callable[[], object]) -> int:
    """The most that NumPy holds at a time while `run` runs."""
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def measure_bandwidth(repeats: int, megabytes: int) -> float:
    """Bytes per second of a copy that fits in no cache: one read and one write of every byte."""
    x = jnp.arange(megabytes * 2**18, dtype=jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return 2 * x.nbytes / best_seconds(lambda: copy(x), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {"prompts": 4096, "samples": 16, "rewards": 8, "repeats": 20, "copy-megabytes": 256}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    shape = (options.prompts, options.samples, options.rewards)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    names = tuple(f"reward{k}" for k in range(options.rewards))
    rewards = jax.device_put(RewardBatch(values=values, valid=np.ones(shape, bool), names=names))
    transform = gdpo(convention="trl")
    state = transform.init(names)

    def advantages_only(rewards, state):
        return compute_advantages(transform, rewards, state)[0].values

    compiled = jax.jit(advantages_only).lower(rewards, state).compile()
    with_metrics = jax.jit(lambda r, s: compute_advantages(transform, r, s))
    seconds = best_seconds(lambda: compiled(rewards, state), options.repeats)
    metric_seconds = best_seconds(lambda: with_metrics(rewards, state), options.repeats)
    loop_seconds = best_seconds(lambda: loop_over_prompts(values), 2)
    loop_bytes = peak_bytes(lambda: loop_over_prompts(values))
    bandwidth = measure_bandwidth(options.repeats, options.copy_megabytes)

    expected = loop_over_prompts(values)
    error = np.max(np.abs(np.asarray(compiled(rewards, state)) - expected))
    traffic = rewards.values.nbytes + rewards.valid.nbytes + expected.nbytes
    memory = compiled.memory_analysis()

    print(f"device                       {jax.devices()[0].device_kind}")
    print(f"rewards                      {list(shape)}, {rewards.values.nbytes / 2**20:.1f} MiB")
    print(f"gdpo, advantages             {1e3 * seconds:9.3f} ms")
    print(f"gdpo, advantages and metrics {1e3 * metric_seconds:9.3f} ms")
    print(f"loop over prompts            {1e3 * loop_seconds:9.3f} ms")
    print(f"loop / gdpo                  {loop_seconds / seconds:9.1f} x")
    print(f"largest difference           {error:9.1e}")
    if memory is not None:
        print(f"temporary memory             {memory.temp_size_in_bytes / 2**20:9.1f} MiB")
        print(f"temporary / least traffic    {memory.temp_size_in_bytes / traffic:9.2f} x")
    print(f"temporary memory of the loop {loop_bytes / 2**20:9.1f} MiB")
    print(f"bandwidth of a copy          {bandwidth / 1e9:9.1f} GB/s")
    print(f"least traffic / time         {traffic / seconds / 1e9:9.1f} GB/s")
    print(f"share of the bandwidth       {traffic / seconds / bandwidth:9.1%}")


if __name__ == "__main__":
    main()
