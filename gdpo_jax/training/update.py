"""Gradients over micro-batches, and one guarded optimizer update.

The loss function divides by the counts of the whole optimizer batch, so the losses and gradients
of micro-batches only have to be summed, `Metrics` say by themselves how they merge, and one large
batch or many small ones give the same update.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from gdpo_jax.objectives import Metrics, join_metrics
from gdpo_jax.policies import Policy, trained_part, with_trained_part
from gdpo_jax.training.mesh import BATCH_AXES, batch_sharding
from gdpo_jax.training.state import TrainState

LossFunction = Callable[[Any, Any], tuple[Float[Array, ""], Metrics]]


def split_rows(batch: Any, parts: int, mesh: Mesh) -> Any:
    """Cut the leading axis into `parts`: `[B, ...] -> [parts, B / parts, ...]`.

    Part `i` takes rows `i, i + parts, ...`, so that each part is spread over all devices of the
    batch axis and no row moves between them.
    """
    sharding = NamedSharding(mesh, PartitionSpec(None, BATCH_AXES))

    def split(rows: Array) -> Array:
        parted = rows.reshape(rows.shape[0] // parts, parts, *rows.shape[1:])
        return jax.lax.with_sharding_constraint(parted.swapaxes(0, 1), sharding)

    return jax.tree.map(split, batch)


def join_rows(parts: Any, mesh: Mesh) -> Any:
    """The inverse of `split_rows`."""

    def join(rows: Array) -> Array:
        joined = rows.swapaxes(0, 1).reshape(-1, *rows.shape[2:])
        return jax.lax.with_sharding_constraint(joined, batch_sharding(mesh))

    return jax.tree.map(join, parts)


def accumulated_gradients(
    policy: Policy,
    loss_function: LossFunction,
    params: Any,
    batch: Any,
    *,
    steps: int,
    mesh: Mesh,
) -> tuple[Any, Metrics]:
    """Gradients and metrics (with `loss`) of the summed `loss_function` over `steps` micro-batches.

    Gradients are those of the policy's trained part, summed in the dtype of the parameters. Memory
    is that of one micro-batch.
    """

    trained = trained_part(policy, params)

    def gradients(micro: Any) -> tuple[Any, Metrics]:
        def loss_of(part: Any, micro: Any) -> tuple[Float[Array, ""], Metrics]:
            return loss_function(with_trained_part(policy, params, part), micro)

        (loss, metrics), grads = jax.value_and_grad(loss_of, has_aux=True)(trained, micro)
        return grads, join_metrics(metrics, Metrics(sums={"loss": loss}))

    if steps == 1:
        return gradients(batch)

    def add(total: Any, micro: Any) -> tuple[Any, Metrics]:
        grads, metrics = gradients(micro)
        return jax.tree.map(jnp.add, total, grads), metrics

    zeros = jax.tree.map(jnp.zeros_like, trained)
    grads, stacked = jax.lax.scan(add, zeros, split_rows(batch, steps, mesh))
    return grads, stacked.over_micro_batches()


def guarded_update(
    policy: Policy,
    state: TrainState,
    optimizer: optax.GradientTransformation,
    grads: Any,
    metrics: Metrics,
) -> tuple[TrainState, Metrics]:
    """One optimizer update, skipped for good from the first loss or gradient that is not finite.

    Adds `grad_norm` (before clipping), `update_norm` and `healthy` (1 or 0) to the metrics.
    """
    grad_norm = optax.tree.norm(grads)
    healthy = state.healthy & jnp.isfinite(metrics["loss"]) & jnp.isfinite(grad_norm)
    trained = trained_part(policy, state.params)
    # optax raises Python floats to integer counts, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
    renewed = optax.apply_updates(trained, updates)

    def keep(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(healthy, a, b), new, old)

    state = state.replace(
        step=state.step + healthy.astype(jnp.int32),
        healthy=healthy,
        params=with_trained_part(policy, state.params, keep(renewed, trained)),
        opt_state=keep(opt_state, state.opt_state),
    )
    own = Metrics(
        sums={"grad_norm": grad_norm, "update_norm": optax.tree.norm(updates)},
        minima={"healthy": healthy.astype(jnp.float32)},
    )
    return state, join_metrics(metrics, own)
