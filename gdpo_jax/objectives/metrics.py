"""Scalar metrics that say by themselves how those of parts become those of the whole."""

import dataclasses
from typing import Any

import chex
import numpy as np

from gdpo_jax.errors import UserError


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Metrics:
    """Named scalars of a micro-batch or of an update; a pytree.

    sums: add up over the micro-batches of an update, so that each micro-batch holds its part of the
      whole (a numerator divided by a count of the optimizer batch). Of several updates in a step
      the mean is reported.
    minima, maxima: the least and the largest, over micro-batches and updates alike.
    """

    sums: dict[str, Any] = dataclasses.field(default_factory=dict)
    minima: dict[str, Any] = dataclasses.field(default_factory=dict)
    maxima: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """The scalar of that name."""
        return self.as_dict()[name]

    def as_dict(self) -> dict[str, Any]:
        """All scalars by name."""
        return {**self.sums, **self.minima, **self.maxima}

    def over_micro_batches(self) -> "Metrics":
        """The metrics of the update; every array holds one entry for each micro-batch."""
        sums = {name: values.sum(axis=0) for name, values in self.sums.items()}
        return Metrics(sums=sums, **self._extremes())

    def over_updates(self) -> "Metrics":
        """The metrics of the step; every array holds one entry for each update."""
        sums = {name: values.mean(axis=0) for name, values in self.sums.items()}
        return Metrics(sums=sums, **self._extremes())

    def _extremes(self) -> dict[str, dict[str, Any]]:
        return {
            "minima": {name: values.min(axis=0) for name, values in self.minima.items()},
            "maxima": {name: values.max(axis=0) for name, values in self.maxima.items()},
        }


def join_metrics(*parts: Metrics) -> Metrics:
    """One record of all these scalars.

    Raises UserError for a name that occurs twice, and for a value that is not a scalar.
    """
    seen: set[str] = set()
    for part in parts:
        for name, value in (*part.sums.items(), *part.minima.items(), *part.maxima.items()):
            if name in seen:
                raise UserError(f"two metrics are named {name!r}; rename one of them")
            if np.shape(value):
                raise UserError(f"metric {name!r} must be a scalar, got shape {np.shape(value)}")
            seen.add(name)
    kinds = ("sums", "minima", "maxima")
    return Metrics(
        **{
            kind: {name: value for part in parts for name, value in getattr(part, kind).items()}
            for kind in kinds
        }
    )
