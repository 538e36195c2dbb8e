"""Invented tasks: prompts, completions to choose from, and what each completion earns.

In the shape descriptions, `P` counts prompts, `C` the completions a prompt has, `K` rewards and `F`
features.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from gdpo_jax.advantages import record
from gdpo_jax.errors import UserError

NOISE_FEATURES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reward:
    """One reward: `scale` times a number from 0 to 1, where every prompt has a completion with 1.

    Raises UserError for a scale that is not positive, a sparsity outside [0, 1), or negative noise.
    """

    name: str
    scale: float = 1.0  # what the best completion earns
    sparsity: float = 0.5  # share of a prompt's completions that earn nothing
    graded: bool = False  # the others earn 1, or in equal steps up to 1
    noise: float = 0.0  # sd of what is added whenever a completion is judged, in units of scale

    def __post_init__(self) -> None:
        if not (self.scale > 0 and 0 <= self.sparsity < 1 and self.noise >= 0):
            raise UserError(
                f"reward {self.name!r}: scale={self.scale} must be positive, "
                f"sparsity={self.sparsity} in [0, 1), noise={self.noise} at least 0"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A family of tasks; each key draws one.

    The completions of a prompt have a hidden score per reward, a standard normal number; the best
    of them earn the reward. `correlation` of the scores is one number for all pairs of rewards or a
    K x K matrix: 0 unrelated, below 0 conflict, and -1 between two rewards of sparsity 0.5 is
    `r_2 = C - r_1`.
    Raises UserError for repeated names, empty sizes, or numbers that are no correlation matrix.
    """

    rewards: tuple[Reward, ...]
    prompts: int = 16
    completions: int = 16
    correlation: float | tuple[tuple[float, ...], ...] = 0.0

    def __post_init__(self) -> None:
        if not self.rewards or len(set(self.names)) != len(self.names):
            raise UserError(f"rewards {list(self.names)}: give at least one, each its own name")
        if self.prompts < 1 or self.completions < 2:
            raise UserError(
                f"prompts={self.prompts} must be at least 1, completions={self.completions} "
                "at least 2"
            )
        matrix = self.correlations()
        size = len(self.rewards)
        legal = matrix.shape == (size, size) and np.allclose(matrix, matrix.T)
        legal = legal and np.allclose(np.diag(matrix), 1)
        if not legal or np.linalg.eigvalsh(matrix).min() < -1e-9:
            raise UserError(
                f"correlation={self.correlation} is no correlation matrix of {size} rewards; one "
                f"number may run from {-1 / max(size - 1, 1):g} to 1"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The K reward names."""
        return tuple(reward.name for reward in self.rewards)

    @property
    def scales(self) -> np.ndarray:
        """What the best completion earns, `[K]`."""
        return np.array([reward.scale for reward in self.rewards], np.float32)

    @property
    def noise(self) -> np.ndarray:
        """Standard deviation of every reward's noise, `[K]`."""
        return np.array([reward.noise for reward in self.rewards], np.float32) * self.scales

    def with_unit_scales(self) -> "Task":
        """The same task with every scale at 1."""
        unit = tuple(dataclasses.replace(reward, scale=1.0) for reward in self.rewards)
        return dataclasses.replace(self, rewards=unit)

    def correlations(self) -> np.ndarray:
        """The K x K matrix of the hidden scores."""
        if isinstance(self.correlation, tuple):
            return np.array(self.correlation)
        size = len(self.rewards)
        return np.where(np.eye(size, dtype=bool), 1.0, self.correlation)


@record()
class Tables:
    """One task.

    rewards: `[P, C, K]` what a completion earns, without noise.
    features: `[P, C, F]` what a policy that is a network sees of a completion.
    """

    rewards: Float[Array, "P C K"]
    features: Float[Array, "P C F"]


def draw_tables(task: Task, key: PRNGKeyArray) -> Tables:
    """The task that belongs to `key`; vmap over keys draws many.

    Features are the hidden scores and `NOISE_FEATURES` unrelated numbers, mixed by a random matrix.
    """
    score_key, other_key, mixing_key = jax.random.split(key, 3)
    size = len(task.rewards)
    shape = (task.prompts, task.completions)
    # The symmetric root exists for singular matrices too, and keeps a score and its negative exact.
    values, vectors = np.linalg.eigh(task.correlations())
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    independent = jax.random.normal(score_key, (*shape, size), jnp.float32)
    scores = independent @ jnp.asarray(root, jnp.float32)
    ranks = jnp.argsort(jnp.argsort(scores, axis=1), axis=1)
    earned = []
    for k, reward in enumerate(task.rewards):
        silent = min(round(reward.sparsity * task.completions), task.completions - 1)
        place = (ranks[:, :, k] - silent + 1).astype(jnp.float32) / (task.completions - silent)
        share = place if reward.graded else jnp.ones_like(place)
        earned.append(jnp.where(place > 0, reward.scale * share, 0))
    others = jax.random.normal(other_key, (*shape, NOISE_FEATURES), jnp.float32)
    width = size + NOISE_FEATURES
    mixing = jax.random.normal(mixing_key, (width, width), jnp.float32) / width**0.5
    return Tables(
        rewards=jnp.stack(earned, axis=-1),
        features=jnp.concatenate([scores, others], axis=-1) @ mixing,
    )


def expected_rewards(
    logits: Float[Array, "P C"], rewards: Float[Array, "P C K"]
) -> Float[Array, "K"]:
    """The exact mean over prompts of `sum_c pi(c) r_k(c)`: no sampling, no noise."""
    probabilities = jax.nn.softmax(logits, axis=1)
    return jnp.mean(jnp.sum(probabilities[:, :, None] * rewards, axis=1), axis=0)


def best_rewards(rewards: Float[Array, "P C K"], weights: Float[Array, "K"]) -> Float[Array, "K"]:
    """What the policy earns that always takes the completion of the largest weighted sum."""
    best = jnp.argmax(jnp.sum(rewards * weights[None, None, :], axis=-1), axis=1)
    chosen = jnp.take_along_axis(rewards, best[:, None, None], axis=1)
    return jnp.mean(chosen[:, 0, :], axis=0)


__all__ = ["Reward", "Tables", "Task", "best_rewards", "draw_tables", "expected_rewards"]
