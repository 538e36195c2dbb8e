"""What the benchmarks of the policy step share: programs, times, memory and the matmul ceiling."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import DecoderConfig, LoraConfig, Policy, decoder_policy, lora_policy
from gdpo_jax.rollouts import Rollout
from gdpo_jax.training import (
    OptimizerConfig,
    PolicyBatch,
    create_state,
    make_mesh,
    make_optimizer,
    make_policy_step,
    to_global,
)
from gdpo_jax.training.packing import computed_tokens, pack_rollout
from gdpo_jax.training.state import frozen_part, with_frozen, without_frozen


@dataclass(frozen=True)
class Shape:
    """Of a batch: prompts, completions of each, tokens, and the mean share of them that is used."""

    prompts: int
    num_samples: int
    prompt_length: int
    completion_length: int
    fill: float = 1.0


@dataclass
class Program:
    """A compiled policy step with its inputs; `run` does one update."""

    policy: Policy
    compiled: Any
    state: Any
    batch: PolicyBatch
    flops: float

    def run(self) -> None:
        frozen = frozen_part(self.policy, self.state.params)
        changing = without_frozen(self.policy, self.state)
        changed, metrics = self.compiled(changing, frozen, self.batch)
        self.state = with_frozen(self.policy, changed, frozen)
        jax.block_until_ready(metrics)

    @property
    def temporary_bytes(self) -> int:
        """The most that is alive inside of the step, by the compiler's plan."""
        return int(self.compiled.memory_analysis().temp_size_in_bytes)


def make_batch(config: DecoderConfig, shape: Shape) -> PolicyBatch:
    """Random tokens and advantages on the host."""
    draw = np.random.default_rng(0)
    p, c = shape.prompt_length, shape.completion_length
    rows = (shape.prompts, shape.num_samples)

    def lengths(size: int, room: int) -> np.ndarray:
        drawn = np.rint(room * shape.fill * draw.uniform(0.5, 1.5, size)).astype(np.int32)
        return np.clip(drawn, 1, room) if shape.fill < 1 else np.full(size, room, np.int32)

    return PolicyBatch(
        prompts=draw.integers(0, config.vocab_size, (shape.prompts, p)).astype(np.int32),
        prompt_lengths=lengths(shape.prompts, p),
        completions=draw.integers(0, config.vocab_size, (*rows, c)).astype(np.int32),
        mask=np.arange(c)[None, None] < lengths(rows, c)[:, :, None],
        advantages=draw.normal(size=(*rows, c)).astype(np.float32),
    )


def make_program(
    config: DecoderConfig,
    shape: Shape,
    *,
    layout: str,
    chunk: int | None,
    lora: LoraConfig | None = None,
) -> Program | None:
    """The step of that layout and chunk; None where packing saves nothing.

    With `lora` only its adapters are trained.
    """
    mesh, policy = make_mesh(), decoder_policy(config)
    if lora is not None:
        policy = lora_policy(policy, lora)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-6))
    host = make_batch(config, shape)
    batch = to_global(host, mesh)
    if layout == "packed":
        rollout = Rollout(
            prompts=host.prompts,
            prompt_lengths=host.prompt_lengths,
            completions=host.completions,
            mask=host.mask,
            log_probs=host.advantages,
            finished=host.mask[..., -1],
        )
        packed = pack_rollout(rollout, parts=1, mesh=mesh, pad_id=0)
        if packed is None:
            return None
        batch = batch.replace(packed=packed)
    step = make_policy_step(
        policy,
        optimizer,
        ObjectiveConfig(),
        mesh=mesh,
        layout="plain" if layout == "plain" else "shared",
        chunk=chunk,
    )
    state = create_state(policy, optimizer, key=jax.random.key(0), mesh=mesh)
    flops = step_flops(config, computed_tokens(batch, layout), batch.completions.size)
    return Program(policy, step.lower(state, batch).compile(), state, batch, flops)


def step_flops(config: DecoderConfig, tokens: int, completion_tokens: int) -> float:
    """Floating-point operations of the weights' products, forward and backward (3 x forward).

    Scores of attention are left out, and so is what rematerialisation computes again.
    """
    d = config.d_model
    attention = 2 * d * config.head_dim * (config.num_heads + config.num_kv_heads)
    layers = config.num_layers * (attention + 3 * d * config.d_ff)
    return 6.0 * (layers * tokens + d * config.vocab_size * completion_tokens)


def best_seconds(runs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """The fastest of several turns of each; the others measure the neighbours. They take turns, so
    that all see the same machine."""
    best = [float("inf")] * len(runs)
    for run in runs:
        run()
    for _ in range(repeats):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def matmul_flops(dtype: str, size: int, repeats: int) -> float:
    """Operations per second of one large product, the ceiling of this device.

    Of random numbers: accelerators multiply ones and zeros faster. The best of 20 or more, since a
    low ceiling would flatter everything under it.
    """
    x = jax.random.normal(jax.random.key(0), (size, size), dtype)
    multiply = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))
    (seconds,) = best_seconds([lambda: jax.block_until_ready(multiply(x, x))], max(repeats, 20))
    return 2.0 * size**3 / seconds
