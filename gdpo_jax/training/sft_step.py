"""The supervised step: the token mean of the negative log-likelihood of given completions, or any
loss of prompts, completions and labels; over all rows, or with a bound on each user's part.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import Metrics, join_metrics
from gdpo_jax.policies import Policy, completion_log_probs
from gdpo_jax.training.mesh import DEFAULT_RULES, ShardingRules, check_batch, placed
from gdpo_jax.training.state import (
    TrainState,
    compile_step,
    state_shardings,
    with_frozen,
    without_frozen,
)
from gdpo_jax.training.update import accumulated_gradients, guarded_update
from gdpo_jax.training.user_clipping import UserClipping, noise_key, noisy_user_gradients

AnyArray = Array | np.ndarray


@chex.dataclass(frozen=True)
class SFTBatch:
    """Prompts and the completions to imitate, both padded on the right; `completion_mask` marks
    tokens that are learned, the stop token included. labels: of records that have one."""

    prompts: Int[AnyArray, "B P"]
    prompt_lengths: Int[AnyArray, "B"]
    completions: Int[AnyArray, "B C"]
    completion_mask: Bool[AnyArray, "B C"]
    labels: Int[AnyArray, "B"] | None = None


# `loss(policy, params, batch)`: a scalar, or a scalar and Metrics. It must be hashable, so that the
# same loss gives the same program: a function, or a frozen dataclass with `__call__`.
Loss = Callable[[Policy, Any, SFTBatch], Any]
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
    loss: Loss | None = None,
    users: UserClipping | None = None,
    expected_users: int = 1,
) -> SFTStep:
    """`step(state, batch) -> (state, metrics)`, jitted over the mesh; what is trained of `state` is
    donated.

    The same arguments give the same program, which a second run in this process need not compile.

    loss: in place of the negative log-likelihood, `loss(policy, params, batch)`: a scalar, or a
    scalar and `Metrics`. Over micro-batches the mean is taken, so that a loss of pairs sees those
    within a micro-batch. `layout` and `chunk` are then without effect.

    users: clip the gradient of each user, whose likelihood is a token mean of its own, and divide
    by `expected_users` (`user_clipping.py`, also for the metrics); rows lie as `user_batches` gives
    them, and those without a token to learn are padding.

    Metrics: `loss` (in nats per token over the whole batch), `tokens`, `grad_norm`, `update_norm`,
    `healthy`, and those of the loss. `step.lower` is that of `jax.jit` (`gdpo_jax.planning`).

    Raises (when called): UserError if the batch does not divide.
    """
    shardings = state_shardings(policy, optimizer, mesh=mesh, rules=rules)
    if users is None:
        # A user's rows stay on one device, so that there is nothing to place.
        policy = placed(policy, mesh, rules, params=shardings.params)

    def likelihood(params: Any, rows: SFTBatch, tokens: Array) -> Float[Array, ""]:
        log_probs, _ = completion_log_probs(
            policy,
            params,
            rows.prompts,
            rows.prompt_lengths,
            rows.completions[:, None],
            rows.completion_mask[:, None],
            layout=layout,
            chunk=chunk,
            with_entropy=False,
        )
        return -jnp.sum(log_probs) / jnp.maximum(tokens, 1.0)

    def of_user(params: Any, rows: SFTBatch) -> Float[Array, ""]:
        return likelihood(params, rows, jnp.sum(rows.completion_mask, dtype=jnp.float32))

    def step(trained: TrainState, frozen: Any, batch: SFTBatch) -> tuple[TrainState, Metrics]:
        state = with_frozen(policy, trained, frozen)
        tokens = jnp.sum(batch.completion_mask, dtype=jnp.float32)

        def own_loss(params, micro):
            return _share_of(loss(policy, params, micro), accumulation_steps)

        def of_batch(params, micro):
            return likelihood(params, micro, tokens), Metrics()

        if users is None:
            grads, metrics = accumulated_gradients(
                policy,
                of_batch if loss is None else own_loss,
                state.params,
                batch,
                steps=accumulation_steps,
                mesh=mesh,
            )
        else:
            grads, metrics = noisy_user_gradients(
                policy,
                of_user,
                state.params,
                batch,
                batch.completion_mask.any(axis=1),
                clipping=users,
                expected_users=expected_users,
                key=noise_key(state.key, state.step),
                mesh=mesh,
            )
        if loss is not None:
            tokens = tokens + jnp.sum(batch.prompt_lengths).astype(jnp.float32)
        metrics = join_metrics(metrics, Metrics(sums={"tokens": tokens}))
        state, metrics = guarded_update(policy, state, optimizer, grads, metrics)
        return without_frozen(policy, state), metrics

    compiled = compile_step(policy, step, shardings, mesh)
    parts = accumulation_steps
    if users is not None:
        parts = users.users_at_once * users.rows_per_user

    def checked(state: TrainState, batch: SFTBatch) -> tuple[TrainState, Metrics]:
        check_batch(batch.prompts.shape[0], mesh, parts=parts, what="SFT batch")
        return compiled(state, batch)

    checked.lower = compiled.lower
    return checked


def _share_of(found: Any, parts: int) -> tuple[Array, Metrics]:
    """A micro-batch's share of the mean over `parts` of them, of what a loss of one's own gave."""
    value, metrics = found if isinstance(found, tuple) else (found, Metrics())
    if jnp.shape(value) or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise UserError(
            f"the loss gave {jnp.result_type(value)} of shape {jnp.shape(value)}; it must give a "
            "float scalar, or one and Metrics"
        )
    if not isinstance(metrics, Metrics):
        raise UserError(f"the loss gave a {type(metrics).__name__} beside the scalar, not Metrics")
    sums = {name: part / parts for name, part in metrics.sums.items()}
    return value / parts, metrics.replace(sums=sums)


__all__ = ["Loss", "SFTBatch", "SFTStep", "make_sft_step"]
