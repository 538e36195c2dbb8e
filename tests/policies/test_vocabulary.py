"""The product with the vocabulary has the values and the gradients of a matmul."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.policies.vocabulary import pick_by_gather, pick_by_sum, vocabulary_logits


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_are_those_of_a_matmul(dtype):
    draw = np.random.default_rng(3).normal
    hidden, table = (jnp.asarray(draw(size=s), dtype) for s in ((2, 3, 5, 8), (8, 40)))
    weights = jnp.asarray(draw(size=(2, 3, 5, 40)), jnp.float32)

    def plain(hidden, table):
        return jnp.matmul(hidden, table, preferred_element_type=jnp.float32)

    found = []
    for product in (vocabulary_logits, plain):
        weighed = jax.jit(jax.grad(lambda *a, f=product: jnp.sum(weights * f(*a)), (0, 1)))
        found.append(weighed(hidden, table))
    np.testing.assert_array_equal(vocabulary_logits(hidden, table), plain(hidden, table))
    for ours, theirs in zip(*found):
        assert ours.dtype == theirs.dtype == dtype
        tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
        np.testing.assert_allclose(
            ours.astype(jnp.float32), theirs.astype(jnp.float32), atol=tolerance, rtol=tolerance
        )


def test_both_ways_to_pick_give_the_values_at_the_tokens():
    values = jnp.arange(12.0).reshape(2, 2, 3) - 5
    tokens = jnp.array([[2, 0], [1, 2]])
    for pick in (pick_by_gather, pick_by_sum):
        np.testing.assert_array_equal(pick(values, tokens), [[-3, -2], [2, 6]])
