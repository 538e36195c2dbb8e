"""Adapters of many users trained in one program: their matrices are stacked on a first axis, and
one step is the step of each user, mapped over that axis above a base that all share and none
changes (one adapter per user: OPPU, arXiv 2402.04401).

Nothing of one user reaches another: each has a loss, a gradient norm, an order of records and
random numbers of his own, drawn from his id alone. Adam works number by number. What is left are
shapes: as many users, rows and tokens in all steps, whatever the records hold.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from gdpo_jax.data import record_batches
from gdpo_jax.data.balanced import BalancedBatches
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import Metrics
from gdpo_jax.policies import (
    LoraConfig,
    Params,
    Placement,
    Policy,
    completion_log_probs,
    lora_init,
    lora_policy,
)
from gdpo_jax.policies.lora import ADAPTERS, BASE, lora_axes
from gdpo_jax.recipe import Model
from gdpo_jax.training import OptimizerConfig, SFTBatch, make_optimizer, replicated

__all__ = [
    "UserLikelihood",
    "adapters_of",
    "each_user_optimizer",
    "stacked_adapters",
    "stacked_policy",
    "user_batches",
    "user_seed",
]


def user_seed(seed: int, user: str) -> int:
    """A seed of 32 bits from a run's seed and a user's id, whoever else there is."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{user}".encode()).digest()[:4], "big")


@functools.lru_cache(maxsize=16)
def stacked_policy(policy: Policy, lora: LoraConfig, users: int) -> Policy:
    """A policy over {"base": parameters, "adapters": those of `users` users, stacked}; training
    changes the adapters.

    It computes nothing of the stack: its functions take the adapters of one user, as those of
    `lora_policy` do, and `UserLikelihood` gives them each in turn.
    """
    alone = lora_policy(policy, lora)

    def init(key: Key[Array, ""]) -> Params:
        base_key, adapter_key = jax.random.split(key)
        base = policy.init(base_key)
        own = [lora_init(k, base, lora) for k in jax.random.split(adapter_key, users)]
        return {BASE: base, ADAPTERS: jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)}

    def logical_axes() -> Any:
        axes = policy.logical_axes()
        own = jax.tree.map(
            lambda names: (None, *names), lora_axes(axes, lora), is_leaf=lambda x: type(x) is tuple
        )
        return {BASE: axes, ADAPTERS: own}

    return alone._replace(init=init, logical_axes=logical_axes)


def stacked_adapters(model: Model, lora: LoraConfig, seed: int, users: Sequence[str]) -> Params:
    """Fresh adapters of users, stacked in their order; each is drawn from his own seed."""
    keys = jnp.stack([jax.random.key(user_seed(seed, user)) for user in users])
    return _drawing(lora, model.mesh)(keys, model.params)


# Kept, so that every stack of as many users has one program.
@functools.lru_cache(maxsize=8)
def _drawing(lora: LoraConfig, mesh: jax.sharding.Mesh) -> Callable[..., Params]:
    """Adapters of each key, for parameters of which the shapes alone are read."""

    def draw(keys: Key[Array, "S"], params: Params) -> Params:
        return jax.vmap(lambda key: lora_init(key, params, lora))(keys)

    return jax.jit(draw, out_shardings=replicated(mesh))


def adapters_of(stacked: Params, place: int) -> Params:
    """One user's adapters out of a stack."""
    return jax.tree.map(lambda leaf: leaf[place], stacked)


@dataclasses.dataclass(frozen=True)
class UserLikelihood:
    """A loss of `run_sft` for stacked adapters: of each user the token mean of the negative
    log-likelihood of his rows, and the sum of these as far as gradients go.

    Rows of a batch stand user by user, equally many of each. The value that is reported is the mean
    over users, with the largest of one user as a metric. Options are those of
    `completion_log_probs`.
    """

    layout: str = "shared"
    chunk: int | None = None

    def __call__(
        self, policy: Policy, params: Params, batch: SFTBatch
    ) -> tuple[Float[Array, ""], Metrics]:
        # Placements are made for rows of one model, which have no axis of users.
        policy = policy._replace(placement=Placement())
        users = jax.tree.leaves(params[ADAPTERS])[0].shape[0]

        def of_user(adapters: Params, rows: SFTBatch) -> Float[Array, ""]:
            log_probs, _ = completion_log_probs(
                policy,
                {BASE: params[BASE], ADAPTERS: adapters},
                rows.prompts,
                rows.prompt_lengths,
                rows.completions[:, None],
                rows.completion_mask[:, None],
                layout=self.layout,
                chunk=self.chunk,
                with_entropy=False,
            )
            tokens = jnp.sum(rows.completion_mask, dtype=jnp.float32)
            return -jnp.sum(log_probs) / jnp.maximum(tokens, 1.0)

        rows = jax.tree.map(lambda x: x.reshape(users, -1, *x.shape[1:]), batch)
        losses = jax.vmap(of_user)(params[ADAPTERS], rows)
        shown = jax.lax.stop_gradient(losses)
        # The mean in value and the sum in gradient: a user's gradient has no factor of how many
        # others there are.
        value = jnp.mean(shown) + jnp.sum(losses - shown)
        return value, Metrics(maxima={"worst_user_loss": jnp.max(shown)})


@functools.lru_cache(maxsize=16)
def each_user_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """The optimizer of `config` for stacked adapters: the norm that is clipped is each user's own.

    All else that `make_optimizer` builds works number by number. Its `update.config` is the
    configuration.
    """
    plain = make_optimizer(dataclasses.replace(config, max_grad_norm=None))
    clip = None
    if config.max_grad_norm is not None:
        clip = optax.clip_by_global_norm(config.max_grad_norm)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if clip is not None:
            updates = jax.vmap(lambda own: clip.update(own, optax.EmptyState())[0])(updates)
        return plain.update(updates, state, params, **extra)

    update.config = config
    return optax.GradientTransformationExtraArgs(plain.init, update)


def user_batches(
    rows: Mapping[str, Sequence[Any]], *, each: int, seed: int, share: tuple[int, int] = (0, 1)
) -> BalancedBatches:
    """Endless batches of `each` rows of every user, user by user in the order of `rows`; share: of
    `process_share`.

    Each user's order is drawn from his own seed and starts anew when he has no rows left. Raises
    UserError that names a user with fewer rows than a batch takes.
    """
    streams = {}
    for user, own in rows.items():
        if len(own) < each:
            raise UserError(
                f"user {user!r} has {len(own)} rows to learn from, and a step takes {each} of each "
                "user; lower run.batch_size, or leave the user out"
            )
        streams[user] = record_batches(own, batch_size=each, seed=user_seed(seed, user))
    index, count = share
    size = len(rows) * each // count
    return BalancedBatches(streams, slice(index * size, (index + 1) * size))
