"""Supervised fine-tuning: the token mean of the negative log-likelihood of given completions."""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from gdpo_jax.objectives import Metrics, join_metrics
from gdpo_jax.policies import Policy, completion_log_probs
from gdpo_jax.training.mesh import (
    DEFAULT_RULES,
    ShardingRules,
    check_batch,
    placed,
)
from gdpo_jax.training.state import (
    TrainState,
    compile_step,
    state_shardings,
    with_frozen,
    without_frozen,
)
from gdpo_jax.training.update import accumulated_gradients, guarded_update

AnyArray = Array | np.ndarray


@chex.dataclass(frozen=True)
class SFTBatch:
    """Prompts and the completions to imitate, both padded on the right; `completion_mask` marks
    tokens that are learned, the stop token included."""

    prompts: Int[AnyArray, "B P"]
    prompt_lengths: Int[AnyArray, "B"]
    completions: Int[AnyArray, "B C"]
    completion_mask: Bool[AnyArray, "B C"]


SFTStep = Callable[[TrainState, SFTBatch], tuple[TrainState, Metrics]]


@functools.lru_cache(maxsize=64)
def make_sft_step(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    accumulation_steps: int = 1,
    layout: str = "shared",
    chunk: int | None = 16,
) -> SFTStep:
    """`step(state, batch) -> (state, metrics)`, jitted over the mesh; what is trained of `state` is
    donated.

    The same arguments give the same program, which a second run in this process need not compile.

    Metrics: `loss` in nats per token over the whole batch, `tokens`, `grad_norm`, `update_norm`,
    `healthy`. `step.lower` is that of `jax.jit` (`dry_run.py`).

    Raises (when called): UserError if the batch does not divide.
    """
    shardings = state_shardings(policy, optimizer, mesh=mesh, rules=rules)
    policy = placed(policy, mesh, rules, params=shardings.params)

    def step(trained: TrainState, frozen: Any, batch: SFTBatch) -> tuple[TrainState, Metrics]:
        state = with_frozen(policy, trained, frozen)
        tokens = jnp.sum(batch.completion_mask, dtype=jnp.float32)

        def loss(params, micro):
            log_probs, _ = completion_log_probs(
                policy,
                params,
                micro.prompts,
                micro.prompt_lengths,
                micro.completions[:, None],
                micro.completion_mask[:, None],
                layout=layout,
                chunk=chunk,
                with_entropy=False,
            )
            return -jnp.sum(log_probs) / jnp.maximum(tokens, 1.0), Metrics()

        grads, metrics = accumulated_gradients(
            policy, loss, state.params, batch, steps=accumulation_steps, mesh=mesh
        )
        metrics = join_metrics(metrics, Metrics(sums={"tokens": tokens}))
        state, metrics = guarded_update(policy, state, optimizer, grads, metrics)
        return without_frozen(policy, state), metrics

    compiled = compile_step(policy, step, shardings, mesh)

    def checked(state: TrainState, batch: SFTBatch) -> tuple[TrainState, Metrics]:
        check_batch(batch.prompts.shape[0], mesh, parts=accumulation_steps, what="SFT batch")
        return compiled(state, batch)

    checked.lower = compiled.lower
    return checked
