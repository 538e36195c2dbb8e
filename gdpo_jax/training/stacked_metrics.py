"""The scalars of a step stacked on the device, so that the host waits for one array.

A step has some sixty of them, and fetching each by itself costs a transfer each. The stacking is
dispatched right behind the step.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdpo_jax.objectives import Metrics

__all__ = ["StackedMetrics", "stack_metrics"]


@dataclass(frozen=True)
class StackedMetrics:
    """The metrics of a step, those on the device stacked.

    arrays: the scalars of each dtype, in their order; nearly always there is one dtype, and numbers
    of several have none in common that holds them all. leaves: of `structure`, with its dtype in
    place of each scalar that is stacked. structure: of the pair (metrics of updates, others).
    """

    arrays: Sequence[jax.Array]
    leaves: Sequence[Any]
    structure: Any

    def on_host(self) -> tuple[list[Metrics], dict[str, Any]]:
        """What `stack_metrics` was given, with NumPy scalars; waits for them."""
        values = {array.dtype: iter(array) for array in jax.device_get(list(self.arrays))}
        leaves = [
            next(values[leaf]) if isinstance(leaf, np.dtype) else leaf for leaf in self.leaves
        ]
        return jax.tree.unflatten(self.structure, leaves)


def stack_metrics(updates: Sequence[Metrics], others: Mapping[str, Any]) -> StackedMetrics:
    """Dispatches the stacking and waits for nothing.

    JAX arrays are scalars that lie alike, on all devices of a mesh; what is none stays as it is.
    """
    leaves, structure = jax.tree.flatten((list(updates), dict(others)))
    scalars = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    arrays = _stacking(scalars[0].sharding)(scalars) if scalars else []
    kept = [leaf.dtype if isinstance(leaf, jax.Array) else leaf for leaf in leaves]
    return StackedMetrics(arrays, kept, structure)


@functools.lru_cache(maxsize=64)
def _stacking(sharding: jax.sharding.Sharding) -> Any:
    """The program that stacks scalars by their dtype; its arrays lie as the scalars do."""

    def stack(scalars: Sequence[jax.Array]) -> list[jax.Array]:
        dtypes = dict.fromkeys(scalar.dtype for scalar in scalars)
        return [jnp.stack([s for s in scalars if s.dtype == dtype]) for dtype in dtypes]

    return jax.jit(stack, out_shardings=sharding)
