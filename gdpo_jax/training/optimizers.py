"""AdamW with warm-up, a schedule and gradient clipping, from one record."""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdpo_jax.errors import UserError


@dataclass(frozen=True)
class OptimizerConfig:
    """What `make_optimizer` builds; counts are optimizer updates, not loop steps."""

    learning_rate: float = 1e-6  # at the end of the warm-up; for all of a pretrained model
    warmup_updates: int = 0  # linear from 0
    schedule: Literal["constant", "cosine", "drop"] = "constant"  # after the warm-up
    total_updates: int | None = None  # where cosine ends or the rate drops, warm-up included
    final_fraction: float = 0.1  # of learning_rate, at the end of cosine or after the drop
    max_grad_norm: float | None = 1.0  # clip by global norm; None never clips
    b1: float = 0.9  # decay of the first moment
    b2: float = 0.95  # decay of the second moment
    eps: float = 1e-8  # added to the root of the second moment
    weight_decay: float = 0.0  # decoupled, on matrices: norm scales and biases are left alone

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "cosine", "drop"):
            raise UserError(
                f"schedule {self.schedule!r} is unknown; use 'constant', 'cosine' or 'drop'"
            )
        if self.schedule != "constant" and (self.total_updates or 0) <= self.warmup_updates:
            raise UserError(
                f"a {self.schedule} schedule needs total_updates above warmup_updates="
                f"{self.warmup_updates}, got {self.total_updates}"
            )
        if self.learning_rate <= 0 or self.warmup_updates < 0:
            raise UserError("learning_rate must be positive and warmup_updates not negative")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise UserError("max_grad_norm must be positive, or None for no clipping")


def learning_rate_schedule(config: OptimizerConfig) -> optax.Schedule:
    """Learning rate as a function of the number of updates done."""
    warmup = config.warmup_updates
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(
            config.learning_rate, config.total_updates - warmup, alpha=config.final_fraction
        )
    elif config.schedule == "drop":
        after = optax.piecewise_constant_schedule(
            config.learning_rate, {config.total_updates - warmup: config.final_fraction}
        )
    else:
        after = optax.constant_schedule(config.learning_rate)
    if not warmup:
        return after
    # Starts at one warm-up step above zero, so that the first update changes something.
    ramp = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, warmup - 1)
    return optax.join_schedules([ramp, after], [warmup])


def decayed(params: Any) -> Any:
    """Which arrays weight decay acts on: those of two axes and more that are no scale or bias.

    The name decides as well as the shape, because layers are stacked: their norm scales have two
    axes, too.
    """

    def is_matrix(path: tuple[Any, ...], array: Any) -> bool:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        return array.ndim > 1 and name != "scale" and not name.endswith("bias")

    return jax.tree.map_with_path(is_matrix, params)


@functools.lru_cache(maxsize=64)
def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW (arXiv 1711.05101) with the schedule of `config`.

    One configuration gives one object, so that steps made with it share their compiled programs.
    Its `update.config` is the configuration (`describe_optimizer`).
    """
    adamw = optax.adamw(
        learning_rate_schedule(config),
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=decayed,
    )
    if config.max_grad_norm is not None:
        adamw = optax.chain(optax.clip_by_global_norm(config.max_grad_norm), adamw)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return adamw.update(updates, state, params, **extra)

    update.config = config
    return optax.GradientTransformationExtraArgs(adamw.init, update)


def as_optimizer(optimizer: OptimizerConfig | optax.GradientTransformation) -> Any:
    """What a configuration describes, or the transformation itself."""
    return make_optimizer(optimizer) if isinstance(optimizer, OptimizerConfig) else optimizer


def describe_optimizer(optimizer: optax.GradientTransformation, params: Any) -> Any:
    """JSON-like: the fields of its `OptimizerConfig`, or for any other transformation the sizes of
    a few updates, four digits each, at the counts of _PROBED_COUNTS.

    params: the trained parameters or their shapes; the probe has the same tree with tiny arrays. A
    transformation that such arrays do not suit is described by the name of its update function.
    """
    config = getattr(optimizer.update, "config", None)
    if config is not None:
        return dataclasses.asdict(config)
    try:
        return {"probe": _probe(optimizer, params)}
    except Exception:
        return {"update": f"{optimizer.update.__module__}.{optimizer.update.__qualname__}"}


# Counts of updates at which schedules are looked at.
_PROBED_COUNTS = (0, 10, 100, 1000, 10000)


def _probe(optimizer: optax.GradientTransformation, params: Any) -> list[str]:
    def tiny(index: int, leaf: Any) -> Any:
        shape = tuple(min(size, 2) for size in leaf.shape)
        values = np.sin(1.0 + index + np.arange(math.prod(shape), dtype=np.float32))
        return values.reshape(shape)

    leaves, tree = jax.tree.flatten(params)
    values = jax.tree.unflatten(tree, [tiny(i, leaf) for i, leaf in enumerate(leaves)])
    gradients = jax.tree.map(lambda leaf: 0.1 * leaf[::-1] if leaf.ndim else leaf, values)

    def at(count: Any, state: Any) -> Any:
        def counted(leaf: Any) -> Any:
            is_count = leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)
            return jnp.full_like(leaf, count) if is_count else leaf

        return jax.tree.map(counted, state)

    @jax.jit
    def update(count: Any, state: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            changes, state = optimizer.update(gradients, at(count, state), values)
        sizes = [jnp.sum(jnp.abs(change)) for change in jax.tree.leaves(changes)]
        return jnp.stack(sizes), state

    state, found = optimizer.init(values), []
    for count in _PROBED_COUNTS:
        sizes, state = update(jnp.int32(count), state)
        found += [f"{float(size):.3e}" for size in sizes]
    return found
