"""Chunked log-probs against full logits; the shared layout against the plain one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from gdpo_jax.errors import UserError
from gdpo_jax.policies import DecoderConfig, completion_log_probs, decoder_policy
from gdpo_jax.policies.attention import (
    both_ways,
    causal_attention,
    causal_mask,
    masked_attention,
)
from gdpo_jax.policies.token_log_probs import token_log_probs

CONFIG = DecoderConfig(
    vocab_size=97,
    d_model=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    d_ff=24,
    max_positions=40,
)
POLICY = decoder_policy(CONFIG)


@functools.partial(jax.jit, static_argnames=("policy", "options"))
def log_probs_of(params, arrays, policy=POLICY, options=()):
    return completion_log_probs(policy, params, *arrays, **dict(options))


@functools.partial(jax.jit, static_argnames="options")
def loss_and_gradient(params, arrays, options=()):
    def loss(p):
        log_probs, entropy = log_probs_of(p, arrays, options=options)
        return jnp.sum(jnp.sin(log_probs) + entropy**2) / 10

    return jax.value_and_grad(loss)(params)


@pytest.fixture(scope="module")
def batch():
    """Three prompts of lengths 7, 3 and 1, four completions each, of mixed lengths."""
    params = jax.jit(POLICY.init)(jax.random.key(5))
    params["embedding"] = params["embedding"] * (0.4 / params["embedding"].std())
    draw = np.random.default_rng(6).integers
    prompts = draw(0, CONFIG.vocab_size, (3, 7), np.int32)
    completions = draw(0, CONFIG.vocab_size, (3, 4, 6), np.int32)
    mask = np.arange(6)[None, None, :] < draw(1, 7, (3, 4))[:, :, None]
    return params, (prompts, np.array([7, 3, 1], np.int32), completions, mask)


@jax.jit
def row_log_probs(params, row, temperature):
    """log softmax after every token of one row, no masks but the causal one."""
    size = row.size
    see = jnp.tril(jnp.ones((1, size, size), bool))
    hidden, _ = POLICY.apply(params, row[None], jnp.arange(size)[None], see)
    return jax.nn.log_softmax(POLICY.unembed(params, hidden) / temperature)[0]


def one_by_one(params, prompts, prompt_lengths, completions, mask, temperature):
    """Each completion alone behind its unpadded prompt, full softmax."""
    values, entropies = np.zeros(completions.shape), np.zeros(completions.shape)
    for b, g in np.ndindex(*completions.shape[:2]):
        row = np.concatenate([prompts[b, : prompt_lengths[b]], completions[b, g]])
        row = np.pad(row, (0, 13 - len(row)))
        full = np.asarray(row_log_probs(params, row, temperature))
        for t in range(int(mask[b, g].sum())):
            predicted = full[prompt_lengths[b] + t - 1]
            values[b, g, t] = predicted[completions[b, g, t]]
            entropies[b, g, t] = -(np.exp(predicted) * predicted).sum()
    return values, entropies


@pytest.mark.parametrize(("layout", "chunk"), [("shared", 4), ("plain", None)])
def test_values_equal_each_completion_alone(batch, layout, chunk):
    params, arrays = batch
    expected = one_by_one(params, *arrays, temperature=0.7)
    options = (("layout", layout), ("chunk", chunk), ("temperature", 0.7))
    for got, want in zip(log_probs_of(params, arrays, options=options), expected):
        np.testing.assert_allclose(got, want, atol=1e-5)
        assert got.dtype == jnp.float32


# Windows of two positions, shorter than every prompt but the last, and one longer than all rows.
WINDOWS = [dataclasses.replace(CONFIG, window=size, global_every=2) for size in (2, 5, 40)]


@pytest.mark.parametrize("config", WINDOWS, ids=lambda c: f"window{c.window}")
def test_both_layouts_equal_each_completion_alone_in_sliding_windows(batch, config):
    policy = decoder_policy(config)
    params, (prompts, lengths, completions, mask) = batch
    shared, _ = log_probs_of(params, batch[1], policy)
    plain, _ = log_probs_of(params, batch[1], policy, (("layout", "plain"),))
    np.testing.assert_allclose(shared, plain, atol=1e-5)

    @jax.jit
    def alone(row):
        size = row.size
        see = jnp.tril(jnp.ones((1, size, size), bool))
        hidden, _ = policy.apply(params, row[None], jnp.arange(size)[None], see)
        return jax.nn.log_softmax(policy.unembed(params, hidden))[0]

    for b, length in enumerate(lengths):
        row = np.concatenate([prompts[b, :length], completions[b, 1]])
        after = np.asarray(alone(np.pad(row, (0, 13 - len(row)))))
        expected = after[np.arange(length - 1, length + 5), completions[b, 1]]
        np.testing.assert_allclose(shared[b, 1], np.where(mask[b, 1], expected, 0), atol=1e-5)
    if config.window < 13:
        assert np.abs(shared - log_probs_of(params, batch[1])[0]).max() > 1e-3


def test_shared_and_plain_have_equal_gradients_chunked_or_not(batch):
    _, exact = loss_and_gradient(*batch, options=(("layout", "plain"), ("chunk", None)))
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(exact))
    assert scale > 0.1
    for layout, chunk in (("plain", 4), ("shared", 3), ("shared", None)):
        _, other = loss_and_gradient(*batch, options=(("layout", layout), ("chunk", chunk)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * scale), other, exact)


@functools.partial(jax.jit, static_argnames="block")
def causally(queries, keys, values, lengths, block=None):
    """In blocks of queries, or by one product."""
    mask = both_ways(causal_mask(lengths, queries.shape[1]))
    if block is None:
        return masked_attention(queries, keys, values, mask)
    return causal_attention(queries, keys, values, mask, block=block)


@pytest.mark.parametrize("block", [3, 7])
def test_causal_attention_in_blocks_is_that_of_one_product(block):
    draw = np.random.default_rng(0)
    queries = draw.normal(size=(2, 7, 4, 6)).astype(np.float32)
    keys, values = draw.normal(size=(2, 2, 2, 7, 6)).astype(np.float32)
    given = queries, keys, values, np.array([7, 4], np.int32)
    whole, parts = jax.device_get((causally(*given), causally(*given, block=block)))
    np.testing.assert_allclose(parts[0], whole[0], atol=1e-6)
    np.testing.assert_allclose(parts[1, :4], whole[1, :4], atol=1e-6)


def test_one_completion_of_a_prompt_is_the_supervised_case(batch):
    params, (prompts, prompt_lengths, completions, mask) = batch
    whole, _ = log_probs_of(params, batch[1])
    first = (prompts, prompt_lengths, completions[:, :1], mask[:, :1])
    single, none = log_probs_of(params, first, options=(("with_entropy", False),))
    np.testing.assert_allclose(single, whole[:, :1], atol=1e-5)
    assert none is None


@pytest.mark.parametrize("chunk", [4, None])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_derivative_is_that_of_log_softmax(batch, chunk, scale):
    params, (_, _, tokens, _) = batch
    hidden = scale * jax.random.normal(jax.random.key(8), (*tokens.shape, CONFIG.d_model))
    weights = jax.random.normal(jax.random.key(9), (2, *tokens.shape))

    def plain(params, hidden):
        logits = hidden @ params["embedding"].T / 0.7
        log_probs = jax.nn.log_softmax(logits, axis=-1)
        chosen = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
        return chosen, -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    def ours(params, hidden):
        return token_log_probs(POLICY, params, hidden, tokens, chunk=chunk, temperature=0.7)

    def weighed(values):
        return jax.jit(jax.grad(lambda *a: jnp.sum(weights * jnp.stack(values(*a))), (0, 1)))

    def close(a, b):
        # exp makes relative errors of what are absolute ones of the logits, up to 100 here.
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max(), rtol=1e-3)

    want, have = (weighed(values)(params, hidden) for values in (plain, ours))
    jax.tree.map(close, have, want)
    # With the parameters fixed the gradient comes out of the forward pass.
    fixed = jax.jit(jax.grad(lambda hidden: jnp.sum(weights * jnp.stack(ours(params, hidden)))))
    close(fixed(hidden), want[1])


def vocabulary_products(jaxpr, size):
    """How many matrix products have the vocabulary as an axis, a scan's body counted once."""
    found = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes = [var.aval.shape for var in (*equation.invars, *equation.outvars)]
            found += any(size in shape for shape in shapes)
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            found += vocabulary_products(inner, size) if hasattr(inner, "eqns") else 0
    return found


def test_a_fixed_table_needs_half_the_products_of_a_trained_one(batch):
    params, (_, _, tokens, _) = batch
    hidden = jax.random.normal(jax.random.key(8), (*tokens.shape, CONFIG.d_model))

    def loss(params, hidden, **options):
        values = token_log_probs(POLICY, params, hidden, tokens, chunk=2, **options)
        return sum(jnp.sum(x) for x in values if x is not None)

    def count(argnums, **options):
        gradient = jax.value_and_grad(functools.partial(loss, **options), argnums=argnums)
        jaxpr = jax.make_jaxpr(gradient)(params, hidden).jaxpr
        needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
        return vocabulary_products(needed, CONFIG.vocab_size)

    for looks in ({"with_entropy": False}, {"entropy_gradient": False}):
        assert count(1, **looks) == 2  # logits, and the gradient of the hidden states
        assert count((0, 1), **looks) == 4  # logits twice, and both gradients
    assert count(1) == 3  # that of the entropy is a product of its own
    plain = jax.make_jaxpr(loss)(params, hidden).jaxpr
    assert vocabulary_products(plain, CONFIG.vocab_size) == 1


@pytest.mark.parametrize("of", ["completions in chunks", "hidden states"])
def test_an_entropy_to_look_at_has_no_gradient_and_changes_none(batch, of):
    params, arrays = batch
    tokens = arrays[2]
    hidden = jax.random.normal(jax.random.key(8), (*tokens.shape, CONFIG.d_model))
    values = {
        "completions in chunks": lambda params, **options: completion_log_probs(
            POLICY, params, *arrays, chunk=4, **options
        ),
        "hidden states": lambda params, **options: token_log_probs(
            POLICY, params, hidden, tokens, chunk=None, **options
        ),
    }[of]

    @functools.partial(jax.jit, static_argnums=2)
    def gradient(params, share, entropy_gradient):
        def loss(params):
            log_probs, entropy = values(params, entropy_gradient=entropy_gradient)
            return jnp.sum(log_probs) + share * jnp.sum(entropy)

        return jax.grad(loss)(params)

    cases = ((0.0, True), (1.0, False), (1.0, True))
    alone, looked_at, used = (jax.device_get(gradient(params, *case)) for case in cases)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), looked_at, alone)
    changes = jax.tree.map(lambda a, b: np.abs(a - b).max(), used, alone)
    assert max(jax.tree.leaves(changes)) > 1e-2


def test_tokens_outside_of_the_mask_count_nothing(batch):
    params, (prompts, prompt_lengths, completions, mask) = batch
    other = (prompts, prompt_lengths, np.where(mask, completions, 5), mask)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4),
        loss_and_gradient(params, batch[1]),
        loss_and_gradient(params, other),
    )
    for values in log_probs_of(params, batch[1]):
        assert not np.any(np.asarray(values)[~mask])


def largest_array(jaxpr):
    """The size of the largest value that any equation makes, inner programs included."""
    largest = 0
    for equation in jaxpr.eqns:
        for out in equation.outvars:
            largest = max(largest, out.aval.size)
        for param in equation.params.values():
            for inner in param if isinstance(param, (tuple, list)) else (param,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    largest = max(largest, largest_array(inner))
    return largest


def test_no_array_of_tokens_by_vocabulary_exists_forward_or_backward():
    config = dataclasses.replace(CONFIG, vocab_size=5000)
    policy = decoder_policy(config)
    params = jax.eval_shape(policy.init, jax.random.key(0))
    prompts = jax.ShapeDtypeStruct((2, 8), jnp.int32)
    lengths = jax.ShapeDtypeStruct((2,), jnp.int32)
    completions = jax.ShapeDtypeStruct((2, 4, 32), jnp.int32)
    mask = jax.ShapeDtypeStruct((2, 4, 32), jnp.bool)

    def largest(chunk):
        def loss(p, *arrays):
            return completion_log_probs(policy, p, *arrays, chunk=chunk)[0].sum()

        program = jax.make_jaxpr(jax.grad(loss))(params, prompts, lengths, completions, mask)
        return largest_array(program.jaxpr)

    assert largest(None) == 2 * 4 * 32 * 5000
    assert largest(2) <= max(2 * 4 * 2 * 5000, 5000 * CONFIG.d_model)


def test_bfloat16_log_probs_are_float32_and_finite(batch):
    params, arrays = batch
    policy = decoder_policy(dataclasses.replace(CONFIG, dtype="bfloat16"))
    log_probs, entropy = log_probs_of(params, arrays, policy=policy)
    exact, _ = log_probs_of(params, arrays)
    assert log_probs.dtype == entropy.dtype == jnp.float32
    assert float(np.abs(log_probs - exact).max()) < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "packed"}, "legal: shared, plain"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"chunk": 0}, "chunk must be at least 1"),
    ],
)
def test_bad_options_are_refused(batch, change, message):
    params, arrays = batch
    with pytest.raises(UserError, match=message):
        log_probs_of(params, arrays, options=tuple(change.items()))


def test_rows_beyond_the_positions_are_refused(batch):
    params, (_, lengths, completions, mask) = batch
    prompts = np.zeros((3, 36), np.int32)
    with pytest.raises(UserError, match=r"36 and completion length 6 exceed .* 40 positions"):
        log_probs_of(params, (prompts, lengths, completions, mask))
