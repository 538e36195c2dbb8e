"""Gradients in which no user weighs more than another: clipped for each user, summed, with noise.

    g_u = mean gradient over the tokens of user u's rows in this step
    g   = (sum over the users u of the step of g_u min(1, C / |g_u|) + N(0, s^2 C^2 I)) / E

This is user-level sampling (ULS) of arXiv 2407.07737, section 3, and DP-SGD of arXiv 1607.00133,
algorithm 1, with a user in place of an example. C is `max_norm`, s is `noise`, and E the expected
number of users of a step, since the number that Poisson sampling gave is private as well. The norm
is that of all trained parameters together. One user changes g by at most C / E, with and without
noise; only noise gives a guarantee, and only an accountant can say which.

`optax.contrib.differentially_private_aggregate` divides by the number of gradients that it is
given, and needs all of them at the same time; here they exist a few at a time.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Key, PyTree

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import Metrics
from gdpo_jax.policies import Policy, trained_part, with_trained_part
from gdpo_jax.training.mesh import batch_sharding, batch_shards

__all__ = ["UserClipping", "clip_to_norm", "noise_key", "noisy_mean", "noisy_user_gradients"]

# Folded into the state's key, so that noise is drawn from a key of its own.
_NOISE = 0x6E6F6973


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserClipping:
    """How far one user may move a step. Raises UserError for numbers out of their range."""

    max_norm: float  # C: the longest gradient of a user, over all trained parameters
    noise: float  # s: the noise on the sum has the standard deviation s C; 0 for none
    user: str | Callable[[Any], Hashable] = "user"  # of a record: a field's name, or a function
    rows_per_user: int = 4  # rows of a user in a step at most
    # Users of each device whose gradients exist at the same time; same update, less memory.
    users_at_once: int = 1

    def __post_init__(self) -> None:
        if not (self.max_norm > 0 and math.isfinite(self.max_norm)):
            raise UserError(f"max_norm must be positive and finite, got {self.max_norm}")
        if not (self.noise >= 0 and math.isfinite(self.noise)):
            raise UserError(f"noise must be finite and not negative, got {self.noise}")
        for name in ("rows_per_user", "users_at_once"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")

    def identity(self) -> dict[str, Any]:
        """What a continuation of a run must share."""
        fields = dataclasses.asdict(self)
        del fields["users_at_once"]
        return fields


def clip_to_norm(tree: PyTree, max_norm: float) -> tuple[PyTree, Float[Array, ""]]:
    """The tree times min(1, max_norm / norm), and its norm over all leaves; zeros stay zeros."""
    norm = optax.tree.norm(tree)
    # A norm of zero would give 0 * inf.
    scale = jnp.minimum(1.0, max_norm / jnp.where(norm > 0, norm, 1.0))
    return jax.tree.map(lambda leaf: leaf * scale, tree), norm


def noise_key(key: Key[Array, ""], step: Array) -> Key[Array, ""]:
    """The key of a step's noise; `key` is that of the state, the same on all devices."""
    return jax.random.fold_in(jax.random.fold_in(key, _NOISE), step)


def noisy_mean(
    total: PyTree, key: Key[Array, ""], *, clipping: UserClipping, expected_users: int
) -> PyTree:
    """(total + N(0, s^2 C^2 I)) / E, where `total` is the sum over all users, on all devices."""
    if clipping.noise:
        drawn = optax.tree.random_like(key, total, jax.random.normal)
        deviation = clipping.noise * clipping.max_norm
        total = jax.tree.map(lambda leaf, noise: leaf + deviation * noise, total, drawn)
    return jax.tree.map(lambda leaf: leaf / expected_users, total)


def noisy_user_gradients(
    policy: Policy,
    loss_function: Callable[[Any, Any], Float[Array, ""]],
    params: PyTree,
    batch: PyTree,
    present: Bool[Array, "rows"],
    *,
    clipping: UserClipping,
    expected_users: int,
    key: Key[Array, ""],
    mesh: Mesh,
) -> tuple[PyTree, Metrics]:
    """The gradient g of the policy's trained part, and metrics.

    batch: arrays [places * rows_per_user, ...], those of a place next to each other, in as many
    equal slices as the mesh cuts rows. present: which rows are there; places behind the last user
    of a slice cost nothing. loss_function(params, rows) is the mean over what is present of the
    rows of one user, and has a gradient of zero where nothing is.

    Each device adds up the clipped gradients of its own users, `users_at_once` at a time; sums are
    added up over devices once, and noise is drawn behind that.

    Metrics: `loss` (mean over users), `users`, `clipped_share` (of them), `user_norm` (mean before
    clipping). They are of the private data themselves, and no noise is on them.
    """
    trained = trained_part(policy, params)
    shape = (batch_shards(mesh), -1, clipping.users_at_once, clipping.rows_per_user)

    def parted(rows: Array) -> Array:
        parts = rows.reshape(*shape, *rows.shape[1:])
        return jax.lax.with_sharding_constraint(parts, batch_sharding(mesh))

    users, present = jax.tree.map(parted, batch), parted(present).any(axis=-1)
    # Chunks behind the last user are not computed.
    ends = jnp.arange(1, present.shape[1] + 1, dtype=jnp.int32)
    chunks = jnp.max(jnp.where(present.any(axis=(0, 2)), ends, 0))

    def of_user(rows: PyTree) -> tuple[PyTree, Array]:
        def loss_of(part: PyTree) -> Float[Array, ""]:
            return loss_function(with_trained_part(policy, params, part), rows)

        loss, grads = jax.value_and_grad(loss_of)(trained)
        grads = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), grads)
        clipped, norm = clip_to_norm(grads, clipping.max_norm)
        over = (norm > clipping.max_norm).astype(jnp.float32)
        return clipped, jnp.stack([loss.astype(jnp.float32), norm, over])

    def of_device(users: PyTree, present: Bool[Array, "chunks at_once"]) -> tuple[PyTree, Array]:
        def add(index: Array, sums: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
            chunk = jax.tree.map(lambda rows: rows[index], users)
            here = present[index]
            grads, numbers = jax.vmap(of_user)(chunk)
            found = (grads, jnp.where(here[:, None], numbers, 0.0))
            return jax.tree.map(lambda total, new: total + new.sum(axis=0), sums, found)

        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), trained)
        return jax.lax.fori_loop(0, chunks, add, (zeros, jnp.zeros(3, jnp.float32)))

    apart = jax.vmap(of_device)(users, present)
    total, numbers = jax.tree.map(functools.partial(jnp.sum, axis=0), apart)
    grads = noisy_mean(total, key, clipping=clipping, expected_users=expected_users)
    grads = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), grads, trained)
    count = jnp.sum(present, dtype=jnp.float32)
    loss, norm, share = numbers / jnp.maximum(count, 1.0)
    sums = {"loss": loss, "users": count, "clipped_share": share, "user_norm": norm}
    return grads, Metrics(sums=sums)
