"""One learner, start to end: sample, look up rewards, advantages, surrogate, update, in one scan.

Everything is a function of (task, key), so seeds and weights are batch axes of one compiled
program.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from experiments.reward_design.policies import PolicyName, policy_named
from experiments.reward_design.tasks import Task, best_rewards, draw_tables, expected_rewards
from gdpo_jax.advantages import (
    AdvantageTransform,
    RewardBatch,
    compute_advantages,
    record,
)
from gdpo_jax.advantages.records import AnyArray
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig, count_denominators, policy_objective

# (task, weights [K]) -> the estimator; the weights are traced, so that they can be a batch axis.
MakeEstimator = Callable[[Task, Float[Array, "K"]], AdvantageTransform]
# Adam takes a step of full size for any gradient far above its eps: keep eps above the rounding.
OPTIMIZERS = {"adam": functools.partial(optax.adam, eps=1e-5), "sgd": optax.sgd}
# The metrics of compute_advantages that are kept, by the end or the start of their names; the
# compiler leaves out the rest, and with it a third of its work.
KEPT_ENDS = ("zero_variance_fraction", "conflict_rate", "cancellation_rate", "distinct_per_group")
KEPT_STARTS = ("advantage/share/", "weight/", "constraint/")
# A program this small costs more to compile than to run, and half as much at level 1 as at 3.
COMPILER_LEVEL = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How a policy is trained. Raises UserError for a value outside its range."""

    steps: int = 300  # rollout batches
    num_samples: int = 8  # completions sampled per prompt and step (G)
    num_iterations: int = 1  # updates per rollout batch; from the second on the ratio is clipped
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 0.05
    policy: PolicyName = "table"
    # A completion is one token here.
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)

    def __post_init__(self) -> None:
        for field in ("steps", "num_samples", "num_iterations", "learning_rate"):
            if not getattr(self, field) > 0:
                raise UserError(f"training {field}={getattr(self, field)} must be positive")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(
                f"training optimizer={self.optimizer!r}; legal values: {list(OPTIMIZERS)}"
            )
        policy_named(self.policy)


@record()
class Curves:
    """What one learner went through; `W` weight vectors and `S` seeds are leading axes, if any.

    rewards: `[W, S, T + 1, K]` exact expected rewards before every update and after the last.
    best: `[W, S, K]` of the policy that maximises the weighted sum of the task.
    moved: `[W, S]` largest change of a parameter by one update, of all updates.
    metrics: name -> `[W, S, T]`, the diagnostics of `compute_advantages` by `KEPT_ENDS` and
    `KEPT_STARTS`, and "entropy" of the policy in nats.
    """

    rewards: Float[AnyArray, "*W_S T K"]
    best: Float[AnyArray, "*W_S K"]
    moved: Float[AnyArray, "*W_S"]
    metrics: dict[str, AnyArray]


def train(
    task: Task,
    training: Training,
    make: MakeEstimator,
    weights: Float[Array, "K"],
    key: PRNGKeyArray,
    *,
    loudness: Float[Array, "K"] | None = None,
) -> Curves:
    """Draws a task from `key` and trains a policy on it; pure, so `jax.vmap` over weights and keys.

    The same key gives the same task, initial policy and random numbers under every estimator.
    loudness: a traced factor on every reward and its noise, which `make` is not told of.
    """
    task_key, init_key, sample_key = jax.random.split(key, 3)
    tables, noise_sd = draw_tables(task, task_key), jnp.asarray(task.noise)
    if loudness is not None:
        tables = dataclasses.replace(tables, rewards=tables.rewards * loudness[None, None, :])
        noise_sd = noise_sd * loudness
    policy = policy_named(training.policy)
    transform = make(task, weights)
    optimizer = OPTIMIZERS[training.optimizer](training.learning_rate)
    start = policy.init(init_key, tables)
    mask = jnp.ones((task.prompts * training.num_samples, 1), bool)
    denominators = count_denominators(mask)

    def log_probs_of(params: Any, chosen: Array) -> Array:
        logits = jax.nn.log_softmax(policy.logits(params, tables), axis=1)
        return jnp.take_along_axis(logits, chosen, axis=1).reshape(-1, 1)

    def loss(params: Any, chosen: Array, old: Array, advantages: Array) -> Array:
        return policy_objective(
            training.objective,
            log_probs=log_probs_of(params, chosen),
            old_log_probs=old,
            advantages=advantages,
            mask=mask,
            denominators=denominators,
        )[0]

    def step(carry: Any, step_key: PRNGKeyArray) -> tuple[Any, Any]:
        params, optimizer_state, advantage_state = carry
        logits = policy.logits(params, tables)
        choose_key, noise_key = jax.random.split(step_key)
        shape = (training.num_samples, task.prompts)
        chosen = jax.random.categorical(choose_key, logits, axis=1, shape=shape).T
        values = jnp.take_along_axis(tables.rewards, chosen[:, :, None], axis=1)
        if task.noise.any():
            noise = jax.random.normal(noise_key, values.shape, values.dtype)
            values = values + noise * noise_sd[None, None, :]
        rewards = RewardBatch(values=values, valid=jnp.ones(values.shape, bool), names=task.names)
        advantages, advantage_state, metrics = compute_advantages(
            transform, rewards, advantage_state, lengths=jnp.ones(chosen.shape, jnp.float32)
        )
        metrics = {
            name: value
            for name, value in metrics.items()
            if name.endswith(KEPT_ENDS) or name.startswith(KEPT_STARTS)
        }
        metrics["entropy"] = _entropy(logits)
        flat, old = advantages.values.reshape(-1, 1), log_probs_of(params, chosen)

        def update(inner: Any, _: None) -> tuple[Any, Array]:
            params, optimizer_state = inner
            gradient = jax.grad(loss)(params, chosen, old, flat)
            # optax mixes integer counts and float decays.
            with jax.numpy_dtype_promotion("standard"):
                changes, optimizer_state = optimizer.update(gradient, optimizer_state, params)
            largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in jax.tree.leaves(changes)]))
            return (optax.apply_updates(params, changes), optimizer_state), largest

        (params, optimizer_state), moved = jax.lax.scan(
            update, (params, optimizer_state), length=training.num_iterations
        )
        before = expected_rewards(logits, tables.rewards)
        return (params, optimizer_state, advantage_state), (before, jnp.max(moved), metrics)

    carry = (start, optimizer.init(start), transform.init(task.names))
    keys = jax.random.split(sample_key, training.steps)
    (params, _, _), (expected, moved, metrics) = jax.lax.scan(step, carry, keys)
    last = expected_rewards(policy.logits(params, tables), tables.rewards)
    return Curves(
        rewards=jnp.concatenate([expected, last[None]]),
        best=best_rewards(tables.rewards, weights),
        moved=jnp.max(moved),
        metrics=metrics,
    )


def train_many(
    task: Task,
    training: Training,
    make: MakeEstimator,
    weights: Float[AnyArray, "W K"],
    *,
    seeds: int,
    loudness: Float[AnyArray, "W K"] | None = None,
) -> Curves:
    """`train` for every weight vector and the seeds 0 to `seeds` - 1, as one compiled program.

    Every seed is another task of the family and another run on it. loudness: see `train`, one
    vector for each of weights. Returns host arrays.
    """
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    weights = jnp.asarray(weights, jnp.float32)
    loudness = jnp.ones_like(weights) if loudness is None else jnp.asarray(loudness, jnp.float32)

    def one(weights: Array, loudness: Array, key: PRNGKeyArray) -> Curves:
        return train(task, training, make, weights, key, loudness=loudness)

    over_seeds = jax.vmap(one, in_axes=(None, None, 0))
    on_cpu = jax.default_backend() == "cpu"
    quick = {"xla_backend_optimization_level": COMPILER_LEVEL} if on_cpu else None
    run = jax.jit(jax.vmap(over_seeds, in_axes=(0, 0, None)), compiler_options=quick)
    return jax.tree.map(np.asarray, run(weights, loudness, keys))


def _entropy(logits: Float[Array, "P C"]) -> Float[Array, ""]:
    log_probs = jax.nn.log_softmax(logits, axis=1)
    return -jnp.mean(jnp.sum(jnp.exp(log_probs) * log_probs, axis=1))


__all__ = ["Curves", "MakeEstimator", "Training", "train", "train_many"]
