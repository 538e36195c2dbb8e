import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jaxtyping import TypeCheckError

from gdpo_jax.errors import UserError
from gdpo_jax.policies import decoder_policy
from gdpo_jax.training import OptimizerConfig, learning_rate_schedule, make_optimizer
from gdpo_jax.training.optimizers import decayed


@pytest.fixture(autouse=True)
def _as_the_step_does():
    with jax.numpy_dtype_promotion("standard"):
        yield


def rates(config, counts):
    schedule = learning_rate_schedule(config)
    return [float(schedule(count)) for count in counts]


def test_warm_up_is_linear_and_starts_above_zero():
    config = OptimizerConfig(learning_rate=0.4, warmup_updates=4)
    np.testing.assert_allclose(rates(config, range(6)), [0.1, 0.2, 0.3, 0.4, 0.4, 0.4], rtol=1e-6)


def test_cosine_falls_to_the_final_fraction():
    config = OptimizerConfig(
        learning_rate=1.0,
        warmup_updates=2,
        schedule="cosine",
        total_updates=6,
        final_fraction=0.2,
    )
    # Half-way down, at update 4, the rate is the mean of 1 and 0.2.
    np.testing.assert_allclose(rates(config, [0, 2, 4, 6, 9]), [0.5, 1.0, 0.6, 0.2, 0.2], rtol=1e-6)


def test_a_rate_may_drop_once():
    config = OptimizerConfig(
        learning_rate=1.0,
        warmup_updates=2,
        schedule="drop",
        total_updates=6,
        final_fraction=0.1,
    )
    np.testing.assert_allclose(rates(config, [0, 2, 5, 6, 9]), [0.5, 1.0, 1.0, 0.1, 0.1], rtol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    grads = {"a": jnp.array([30.0, 0.0]), "b": jnp.array([0.0, 40.0])}
    # With eps far above the clipped gradient, Adam's first update is proportional to it.
    config = OptimizerConfig(learning_rate=1.0, max_grad_norm=5.0, eps=1e6)
    optimizer = make_optimizer(config)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["a"] * -1e6, [3.0, 0.0], rtol=1e-4)
    np.testing.assert_allclose(updates["b"] * -1e6, [0.0, 4.0], rtol=1e-4)


def test_weight_decay_acts_on_the_matrices_of_a_decoder_alone():
    config = dataclasses.replace(toy.DECODER, attention_bias=True, qk_norm=True)
    found = decayed(jax.eval_shape(decoder_policy(config).init, jax.random.key(0)))
    names = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, decays in jax.tree_util.tree_leaves_with_path(found)
        if decays
    }
    kernels = ("down", "gate", "key", "out", "query", "up", "value")
    assert names == {"embedding", *(f"layers/{name}" for name in kernels)}


def test_weight_decay_leaves_vectors_alone():
    params = {"matrix": jnp.ones((2, 2)), "scale": jnp.ones(2)}
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.1, weight_decay=0.5))
    grads = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["matrix"], -0.05 * np.ones((2, 2)), rtol=1e-6)
    np.testing.assert_array_equal(updates["scale"], [0.0, 0.0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "linear"}, "'constant'.*'cosine'"),
        ({"schedule": "cosine"}, "total_updates above warmup_updates=0, got None"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"max_grad_norm": 0.0}, "None for no clipping"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    # With run-time type checks a wrong word is refused before the configuration sees it.
    with pytest.raises((UserError, TypeCheckError), match=message):
        OptimizerConfig(**changes)
