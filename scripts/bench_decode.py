#!/usr/bin/env python
"""Drawing completions alone, against `generate` of transformers.

    pip install -e '.[bench]'
    python scripts/bench_decode.py [--models tiny 30m 135m] [--prompts 32] [--rounds 2]

Both sides load the same folder of random weights, take the same prompts, one completion of each,
and draw exactly `completion_length` tokens at temperature 1 from all tokens, on the same cores or
the same GPU. A step is a whole call, the prompt included. Processes, medians, the comparison of
log-probs and float32 on a GPU are as in bench_trl.py. The JAX side keeps the log-prob of each
token, as training needs it; transformers keeps tokens alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from bench_sides import (
    BACKENDS,
    Clock,
    Options,
    main,
    open_folder,
    open_torch,
    peak_bytes,
    resident_bytes,
    result_of,
)


@dataclass(frozen=True)
class DecodeOptions(Options):
    models: tuple[str, ...] = ("tiny", "30m")  # of `MODELS`
    dtype: Literal["float32"] = "float32"  # of weights and products
    prompts: int = 32  # rows of a call
    num_samples: Literal[1] = 1  # completions of each prompt
    prompt_length: int = 32  # tokens
    steps: int = 6  # calls a round, the first of which only warms up


def calls(ids: np.ndarray, options: DecodeOptions, draw: Callable[[np.ndarray], Any]) -> Clock:
    """Calls of `draw` with other prompts each time; it returns tokens `[rows, C]` on the host."""
    clock, rows = Clock(), options.prompts
    for step in range(options.steps):
        tokens = draw(ids[step * rows : (step + 1) * rows])
        assert tokens.shape == (rows, options.completion_length), tokens.shape
        clock.tick()
    return clock


def run_sampler(folder: Path, options: DecodeOptions) -> dict[str, Any]:
    """Calls of `sample`."""
    import jax
    import jax.numpy as jnp

    from gdpo_jax.rollouts import SamplerConfig, sample

    policy, params, tokenizer, ids, scored = open_folder(folder, options)
    config = SamplerConfig(
        max_new_tokens=options.completion_length, stop_ids=(), pad_id=tokenizer.pad_id
    )
    lengths = jnp.full((options.prompts,), options.prompt_length, jnp.int32)
    compiled = jax.jit(lambda *inputs: sample(policy, *inputs, num_samples=1, config=config))
    keys = iter(jax.random.split(jax.random.key(0), options.steps))

    def draw(prompts):
        drawn = compiled(params, jnp.asarray(prompts), lengths, next(keys))
        jax.block_until_ready(drawn)
        return np.asarray(drawn.completions)[:, 0]

    return result_of(calls(ids, options, draw), scored, peak_bytes())


def run_transformers(folder: Path, options: DecodeOptions) -> dict[str, Any]:
    """Calls of `generate`."""
    import torch

    model, tokenizer, ids, scored = open_torch(folder, options)
    model.generation_config.eos_token_id = None
    device = BACKENDS[options.platform]
    torch.manual_seed(0)

    def draw(prompts):
        prompts = torch.as_tensor(prompts, device=device)
        tokens = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=options.completion_length,
            min_new_tokens=options.completion_length,
            pad_token_id=tokenizer.pad_token_id,
        )
        return tokens[:, prompts.shape[1] :].cpu().numpy()

    clock = calls(ids, options, draw)
    peak = torch.cuda.max_memory_allocated() if options.platform == "gpu" else resident_bytes()
    return result_of(clock, scored, peak)


if __name__ == "__main__":
    options = tyro.cli(DecodeOptions)
    main(__file__, "transformers", run_transformers, options, ours=run_sampler)
