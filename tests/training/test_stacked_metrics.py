"""Stacked on the device and fetched as one array, metrics are the numbers that they were."""

import jax
import jax.numpy as jnp
import toy

from gdpo_jax.objectives import Metrics
from gdpo_jax.training import replicated
from gdpo_jax.training.run import fetch
from gdpo_jax.training.stacked_metrics import stack_metrics

LARGE = 2**24 + 1  # a whole number that float32 does not hold


def test_every_number_comes_back_in_its_dtype():
    updates = [
        Metrics(
            sums={"loss": jnp.float32(number / 3), "count": jnp.int32(LARGE + number)},
            minima={"healthy": jnp.float32(number)},
            maxima={"most": jnp.int32(number)},
        )
        for number in (1, 2)
    ]
    given = jax.device_put((updates, {"reward": jnp.float32(0.1)}), replicated(toy.mesh_of(4)))
    updates, others = given[0], {**given[1], "on_host": 0.1}
    stacked = stack_metrics(updates, others)
    kinds = {array.dtype.name: array.size for array in stacked.arrays}
    assert kinds == {"float32": 5, "int32": 4}
    assert all(array.is_fully_replicated for array in stacked.arrays)
    found = stacked.on_host()
    assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    toy.assert_same(found, (updates, others))
    row = fetch(*found)
    assert row == fetch(updates, others)
    assert (row["count"], row["healthy"], row["most"]) == (LARGE + 1.5, 1, 2)
    assert fetch(found[0][:1], found[1]) == fetch(updates[:1], others)


def test_metrics_that_are_on_the_host_stay_there():
    stacked = stack_metrics([Metrics(sums={"loss": 0.5})], {"age": 1.0})
    assert stacked.arrays == [] and fetch(*stacked.on_host()) == {"loss": 0.5, "age": 1.0}
