"""What tests of attention share: rows, their gradients, a small decoder, and a count of scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gdpo_jax.policies import DecoderConfig, decoder_policy
from gdpo_jax.policies.group_attention import grouped
from gdpo_jax.policies.long_attention import long_grouped

WINDOW = 9


def row(seed, *, lengths, prompt, samples, length, heads=4, kv_heads=2, size=8, dtype="float32"):
    """Queries, keys and values of rows, and weights of the outputs that anything depends on."""
    draw = np.random.default_rng(seed).normal
    tokens = prompt + samples * length
    shapes = [(len(lengths), tokens, n, size) for n in (heads, kv_heads, kv_heads)]
    arrays = [draw(size=shape).astype(dtype) for shape in shapes]
    slots = np.arange(tokens)
    real = (slots < np.asarray(lengths)[:, None]) | (slots >= prompt)
    return arrays, (draw(size=shapes[0]) * real[..., None, None]).astype(np.float32)


def values_and_gradients(attend, arrays, weights, local=None):
    def loss(arrays):
        mixed = attend(*arrays, None, local)[0].astype(jnp.float32) * weights
        return jnp.sum(mixed), mixed

    (_, mixed), changes = jax.jit(jax.value_and_grad(loss, has_aux=True))(arrays)
    return [mixed, *changes]


def assert_close(found, expected, tolerance=2e-6):
    for have, want in zip(found, expected, strict=True):
        want = np.asarray(want, np.float32)
        scale = max(np.abs(want).max(), 1.0)
        np.testing.assert_allclose(np.asarray(have, np.float32), want, atol=tolerance * scale)


def both(lengths, *, prompt, samples, length, window=None, block=8):
    """Attention of whole rows, and in blocks; both make their masks in the program that calls."""
    options = {"prompt_size": prompt, "num_samples": samples, "window": window}

    def whole(*arguments):
        return grouped(jnp.asarray(lengths, jnp.int32), **options)(*arguments)

    def blocks(*arguments):
        of_blocks = {"length": length, "block": block}
        return long_grouped(jnp.asarray(lengths, jnp.int32), **options, **of_blocks)(*arguments)

    return whole, blocks


CONFIG = DecoderConfig(
    vocab_size=31,
    d_model=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    d_ff=24,
    max_positions=64,
    window=WINDOW,
    global_every=2,
    remat="dots",
)
POLICY = decoder_policy(CONFIG)


@functools.cache
def batch():
    """Two prompts, three completions of each, some of them empty."""
    draw = np.random.default_rng(6).integers
    prompts = draw(0, 31, (2, 7), np.int32)
    completions = draw(0, 31, (2, 3, 18), np.int32)
    lengths = np.array([[18, 0, 5], [11, 3, 0]])
    mask = np.arange(18) < lengths[..., None]
    params = jax.jit(POLICY.init)(jax.random.key(5))
    return params, (prompts, np.array([7, 2], np.int32), completions, mask), lengths


def exponentials(attend, *, size, length, remat):
    """How many exponentials of `size` scores or more the gradient of one layer takes."""
    config = DecoderConfig(
        vocab_size=11,
        d_model=8,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=4,
        d_ff=12,
        max_positions=length,
        remat=remat,
    )
    policy = decoder_policy(config)
    params = jax.eval_shape(policy.init, jax.random.key(0))
    rows = jnp.zeros((1, length), jnp.int32)

    def loss(params):
        return jnp.sum(policy.forward(params, rows, rows, attend)[0])

    def count(jaxpr):
        found = 0
        for equation in jaxpr.eqns:
            found += equation.primitive.name == "exp" and equation.outvars[0].aval.size >= size
            for inner in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
            ):
                inner = getattr(inner, "jaxpr", inner)
                found += count(inner) if hasattr(inner, "eqns") else 0
        return found

    return count(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)
