"""The learning kernel against the full Jacobian, a linear model, and Proposition 1's bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.dcr.bound import proposition_terms
from experiments.dcr.kernel import (
    block_means,
    first_token_logits,
    jacobian_kernel_norms,
    kernel_norms,
    prompt_rows,
    relative_norms,
)
from gdpo_jax.errors import UserError
from gdpo_jax.policies import LoraConfig, completion_log_probs
from gdpo_jax.recipe import with_lora
from tests.experiments.dcr.small_model import ROWS, small_model

PROMPTS = [row["prompt"] for row in ROWS[:4]]
KINDS = [row["kind"] for row in ROWS[:4]]


@pytest.fixture(scope="module")
def model():
    return small_model(tie_embeddings=False)


def test_of_a_linear_model_it_is_the_product_of_features():
    """z = W h: K(x', x) is (h' . h) times the identity of three logits."""
    draw = np.random.default_rng(0)
    features = jnp.asarray(draw.normal(size=(5, 4)), jnp.float32)
    weights = jnp.asarray(draw.normal(size=(3, 4)), jnp.float32)
    found = jacobian_kernel_norms(
        lambda w, others, h: others * (w @ h), weights, jnp.float32(2), features, batch_size=2
    )
    expected = 4 * np.abs(features @ features.T) * 3**0.5
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_logits_are_those_that_a_first_token_is_drawn_from(model):
    rows = prompt_rows(model, PROMPTS, top_k=None)

    @jax.jit
    def log_probs(params):
        logits = jax.vmap(lambda row: first_token_logits(model.policy, params, row))(rows)
        return jax.nn.log_softmax(logits)

    @jax.jit
    def expected(params):
        tokens = rows.tokens[:, :7, None]
        mask = jnp.ones(tokens.shape, bool)
        return completion_log_probs(model.policy, params, rows.prompts, rows.lengths, tokens, mask)[
            0
        ]

    found = np.asarray(log_probs(model.params))[:, :7]
    np.testing.assert_allclose(found, expected(model.params)[..., 0], rtol=1e-4)
    likeliest = prompt_rows(model, PROMPTS, top_k=3).tokens
    np.testing.assert_array_equal(
        likeliest, np.argsort(-np.asarray(log_probs(model.params)), axis=1, kind="stable")[:, :3]
    )


@pytest.mark.parametrize(
    ("layers", "kept"),
    # One layer is not all of them, even after a program for those.
    [(True, slice(None)), (1, slice(1))],
    ids=["all parameters", "all but those of the last layers"],
)
def test_it_is_exact_against_the_full_jacobian(model, layers, kept):
    mask = dict.fromkeys(model.params, True) | {"layers": layers}
    rows = prompt_rows(model, PROMPTS, top_k=4)

    @jax.jit
    def jacobians(params):
        one = jax.jacrev(lambda p, row: first_token_logits(model.policy, p, row))
        return jax.vmap(one, in_axes=(None, 0))(params, rows)

    found = dict(jacobians(model.params))
    # [N, K, layers, ...]
    found["layers"] = jax.tree.map(lambda j: j[:, :, kept], found["layers"])
    flat = [np.asarray(leaf, np.float64).reshape(4, 4, -1) for leaf in jax.tree.leaves(found)]
    full = np.concatenate(flat, axis=-1)
    expected = np.linalg.norm(np.einsum("akp,blp->abkl", full, full), axis=(2, 3))
    norms = kernel_norms(model, PROMPTS, top_k=4, mask=mask, batch_size=3)
    np.testing.assert_allclose(norms, expected, rtol=2e-4)
    np.testing.assert_allclose(norms, norms.T, rtol=2e-4)


def test_relative_norms_and_blocks_by_hand():
    relative = relative_norms(np.array([[2.0, 1, 4], [3, 6, 3], [1, 1, 1]]))
    np.testing.assert_allclose(relative, [[1, 0.5, 2], [0.5, 1, 0.5], [1, 1, 1]])
    means = block_means(relative, ["a", "a", "b"])
    assert means["a"] == {"a": 0.5, "b": 1.25}
    assert means["b"]["a"] == 1.0
    assert np.isnan(means["b"]["b"])


@pytest.mark.parametrize(
    ("tied", "tail_trained"), [(True, False), (False, True)], ids=["frozen", "trained"]
)
def test_the_bound_holds_on_every_pair(tied, tail_trained):
    model = small_model(tie_embeddings=tied)
    terms = proposition_terms(model, PROMPTS, layer=2, tail_trained=tail_trained, top_k=3)
    assert (terms.kernel <= terms.bound * (1 + 1e-4)).all()
    assert terms.sensitivity > 0 and terms.slope > 0 and terms.remainder.min() >= 0
    assert (terms.tail > 0) is tail_trained
    assert bool(terms.crossing.any()) is tail_trained
    mask = {"layers": 2} if tied else {"layers": 2, "embedding": True}
    if tail_trained:
        mask = {"layers": True, "final_norm": True, "embedding": not tied, "head": True}
        mask = {name: value for name, value in mask.items() if name in model.params}
    expected = kernel_norms(model, PROMPTS, top_k=3, mask=mask)
    np.testing.assert_allclose(terms.kernel, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k must be from 1"),
        ({"mask": {"layer": True}}, "legal: embedding"),
        ({"prompts": ["lamp " * 99]}, "at most 64 tokens"),
        ({"prompts": []}, "at most 64 tokens"),
    ],
)
def test_what_cannot_be_measured_is_named(model, options, message):
    with pytest.raises(UserError, match=message):
        kernel_norms(model, **({"prompts": PROMPTS} | options))


def test_wrong_layers_adapters_and_empty_kernels_are_named(model):
    with pytest.raises(UserError, match="layers 1 to 3"):
        proposition_terms(model, PROMPTS, layer=7)
    with pytest.raises(UserError, match="merge the adapters"):
        proposition_terms(with_lora(model, LoraConfig(rank=1)), PROMPTS, layer=1)
    with pytest.raises(UserError, match="prompt 1 has a kernel of 0"):
        relative_norms(np.array([[1.0, 0], [0, 0]]))
    with pytest.raises(UserError, match="3 kinds do not fit"):
        block_means(np.eye(2), ["a", "b", "c"])
