#!/usr/bin/env python
"""Tokens per second of the sampler, against a naive scanned decode in the same run.

    python scripts/bench_sampler.py [--models tiny 30m 135m 1b] [--batches 1 8 32 128] [--prompt 32]
                                    [--new-tokens 64] [--repeats 5] [--copy-megabytes 256]
                                    [--dtype bfloat16] [--spread-models tiny]

The naive decode is what one writes first: `lax.scan` over steps of the scanned decoder with one
stacked cache, `jax.random.categorical`, and a log-softmax for the log-probability. Both draw one
completion of each of `batch` different prompts with products in `dtype` of float32 weights, and no
token stops; times are of whole calls, the fastest of several that take turns.

On an accelerator the last column is the share of the memory bandwidth: what the steps must read
(every matrix, and keys and values of the tokens so far), by the time, by the bandwidth of a copy
measured in the same run. A CPU keeps the weights of small models in its caches, and has none.

The second table draws completions of spread lengths, 8 of each prompt where the batch allows:
log-normal with the median at 0.35 of the limit and a deviation of 0.5 in the logarithm, cut at the
limit, by a stop token with the hazard of that length at each position. It compares the sampler that
goes on with the unfinished rows alone with itself keeping all rows until the last one ends.
"""

import argparse
import dataclasses
import functools
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from bench_models import MODELS, decoder_config

from gdpo_jax.policies import DecoderConfig, Policy, decoder_policy, num_params
from gdpo_jax.rollouts import SamplerConfig, sample

STOP, MEDIAN, DEVIATION = 1, 0.35, 0.5


def best_seconds(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The fastest of several runs of each, taken in turns: the others measure the neighbours."""
    best = dict.fromkeys(runs, math.inf)
    for run in runs.values():
        jax.block_until_ready(run())
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def naive_decode(policy: Policy, params, prompts, key, *, length: int):
    """Tokens and log-probs `[N, C]` by a scan over steps of the scanned decoder."""
    rows, size = prompts.shape
    slots = jnp.arange(size + length)

    def forward(tokens, first, cache):
        positions = jnp.broadcast_to(first + jnp.arange(tokens.shape[1])[None], tokens.shape)
        see = slots[None, None] <= positions[:, :, None]
        hidden, cache = policy.apply(params, tokens, positions, see, cache)
        return hidden[:, -1], cache

    def step(carry, number):
        hidden, cache = carry
        logits = policy.unembed(params, hidden)
        tokens = jax.random.categorical(jax.random.fold_in(key, number), logits)
        log_probs = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_probs, tokens[:, None], axis=-1)[:, 0]
        return forward(tokens[:, None], size + number, cache), (tokens, chosen)

    start = forward(prompts, 0, policy.init_cache(rows, size + length))
    _, (tokens, log_probs) = jax.lax.scan(step, start, jnp.arange(length))
    return tokens.T, log_probs.T


def with_lengths(policy: Policy, *, prompt: int, limit: int) -> Policy:
    """The policy with a stop token that gives the lengths of the module's docstring.

    The probability rides behind the hidden state as one more channel, since only the forward pass
    knows positions and only the logits stop.
    """
    steps = np.arange(1, limit + 1)
    ended = [0.5 * math.erfc(-math.log(n / (MEDIAN * limit)) / DEVIATION / 2**0.5) for n in steps]
    before = np.concatenate([[0.0], ended[:-1]])
    hazard = np.clip((np.array(ended) - before) / (1 - before), 1e-6, 1 - 1e-6)
    odds = jnp.asarray(np.log(hazard / (1 - hazard)), jnp.float32)

    def forward(params, tokens, positions, *arguments, **options):
        hidden, caches = policy.forward(params, tokens, positions, *arguments, **options)
        step = jnp.clip(positions - prompt + 1, 0, limit - 1)
        last = odds[step][..., None].astype(hidden.dtype)
        return jnp.concatenate([hidden, last], axis=-1), caches

    def logits_of(hidden, table):
        logits = policy.logits_of(hidden[..., :-1], table)
        others = jax.nn.logsumexp(logits.at[..., STOP].set(-jnp.inf), axis=-1)
        return logits.at[..., STOP].set(others + hidden[..., -1])

    return policy._replace(forward=forward, logits_of=logits_of)


def bytes_a_step(config: DecoderConfig, params, rows: int, tokens: float) -> float:
    """What a step must read with `tokens` in each row's cache, the mean over a call."""
    table = 0 if config.tie_embeddings else config.vocab_size * config.d_model
    cache = 2 * config.num_layers * config.num_kv_heads * config.head_dim * tokens * rows
    return jnp.dtype(config.dtype).itemsize * (num_params(params) - table + cache)


def compiled_sample(policy: Policy, config: SamplerConfig, num_samples: int):
    options = {"num_samples": num_samples, "config": config}
    return jax.jit(functools.partial(sample, policy, **options))


def measure_bandwidth(repeats: int, megabytes: int) -> float:
    """Bytes per second of a copy that fits in no cache: one read and one write of every byte."""
    x = jnp.arange(megabytes * 2**18, dtype=jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return 2 * x.nbytes / best_seconds({"copy": lambda: copy(x)}, repeats)["copy"]


def inputs(policy: Policy, batch: int, size: int):
    """Parameters, and prompts that are all `size` long, with a key."""
    draw = np.random.default_rng(0).integers
    prompts = jnp.asarray(draw(0, policy.config.vocab_size, (batch, size), np.int32))
    params = jax.jit(policy.init)(jax.random.key(0))
    return params, prompts, jnp.full((batch,), size, jnp.int32), jax.random.key(1)


def compare_with_naive(name: str, batch: int, bandwidth: float | None, options) -> str:
    size, length = options.prompt, options.new_tokens
    changes = {"max_positions": size + length, "dtype": options.dtype}
    policy = decoder_policy(decoder_config(name, **changes))
    params, prompts, lengths, key = inputs(policy, batch, size)
    config = SamplerConfig(max_new_tokens=length, stop_ids=(), pad_id=0, halvings=0)
    ours = compiled_sample(policy, config, 1)
    naive = jax.jit(functools.partial(naive_decode, policy, length=length))
    runs = {
        "ours": lambda: ours(params, prompts, lengths, key),
        "naive": lambda: naive(params, prompts, key),
    }
    seconds = best_seconds(runs, options.repeats)
    speed = {which: batch * length / taken for which, taken in seconds.items()}
    share = ""
    if bandwidth is not None:
        needed = length * bytes_a_step(policy.config, params, batch, size + length / 2)
        share = f"{needed / seconds['ours'] / bandwidth:12.1%}"
    ratio = seconds["naive"] / seconds["ours"]
    speeds = f"{speed['naive']:14.0f}{speed['ours']:14.0f}"
    return f"{name:6s}{batch:7d}{speeds}{ratio:10.2f} x{share}"


def compare_lengths(name: str, batch: int, options) -> str:
    limit = options.new_tokens
    num_samples = 8 if batch % 8 == 0 else 1
    changes = {"max_positions": options.prompt + limit, "dtype": options.dtype}
    plain = decoder_policy(decoder_config(name, **changes))
    given = inputs(plain, batch // num_samples, options.prompt)
    policy = with_lengths(plain, prompt=options.prompt, limit=limit)
    config = SamplerConfig(max_new_tokens=limit, stop_ids=(STOP,), pad_id=0)
    programs = {
        "moving": compiled_sample(policy, config, num_samples),
        "keeping": compiled_sample(policy, dataclasses.replace(config, halvings=0), num_samples),
    }
    rollouts = {which: jax.device_get(program(*given)) for which, program in programs.items()}
    lengths = rollouts["keeping"].mask.sum(axis=-1)
    same = (rollouts["moving"].completions == rollouts["keeping"].completions).mean()
    runs = {which: functools.partial(program, *given) for which, program in programs.items()}
    seconds = best_seconds(runs, options.repeats)
    speed = {which: lengths.sum() / taken for which, taken in seconds.items()}
    ratio = seconds["keeping"] / seconds["moving"]
    speeds = f"{speed['keeping']:14.0f}{speed['moving']:14.0f}"
    spread = f"{lengths.mean():10.0f}{lengths.max():6d}"
    return f"{name:6s}{batch:7d}{speeds}{ratio:10.2f} x{spread}{same:14.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["tiny", "30m"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32, 128])
    sizes = {"prompt": 32, "new-tokens": 64, "repeats": 5, "copy-megabytes": 256}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--spread-models", nargs="*", choices=MODELS, help="of the second table")
    options = parser.parse_args()
    if options.spread_models is None:
        options.spread_models = options.models
    device, bandwidth = jax.devices()[0], None
    print(f"device {device.device_kind}, JAX {jax.__version__}, {options.dtype}")
    if device.platform != "cpu":
        bandwidth = measure_bandwidth(options.repeats, options.copy_megabytes)
        print(f"bandwidth of a copy {bandwidth / 1e9:.1f} GB/s")
    print(f"\n{'model':6s}{'batch':>7s}{'naive tok/s':>14s}{'sampler tok/s':>14s}{'ratio':>11s}")
    for name in options.models:
        for batch in options.batches:
            print(compare_with_naive(name, batch, bandwidth, options), flush=True)
    if not options.spread_models:
        return
    print("\ncompletions of spread lengths")
    titles = f"{'keeping tok/s':>14s}{'moving tok/s':>14s}{'ratio':>11s}"
    print(f"{'model':6s}{'batch':>7s}{titles}{'mean':>11s}{'max':>6s}{'same tokens':>14s}")
    for name in options.spread_models:
        for batch in options.batches:
            # With fewer rows the sampler keeps them all.
            if batch > SamplerConfig.fewest_rows:
                print(compare_lengths(name, batch, options), flush=True)


if __name__ == "__main__":
    main()
